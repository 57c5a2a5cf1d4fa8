"""Walks through a knob space that learn where a surrogate is high: proximal policy optimisation (Schulman et al., 2017).

This is the adaptive exploration of CHAMELEON (Ahn et al., ICLR 2020, section 4.1).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from search.space import KnobSpace
from surrogates.base import Scorer

MOVES = 3
"""What can be done to a knob: one option down, stay, one option up."""

ADAM = optax.scale_by_adam(eps=1e-5)


class PPO(NamedTuple):
    r"""How an agent walks and learns: CHAMELEON's settings, but for `horizon` and `minibatch`.

    Of `clip` and `entropy_weight` we are not sure: these are the appendix's as we know them; the authors' code has 0.2 and 0.3.

    The paper's walkers go one after the other, and the agent learns at the end of each walk. Ours go abreast, and the agent
    learns every `horizon` steps: by these numbers, as many gradient steps from as many configurations.

    - `steps`: how far each walker goes, rounded up to a multiple of the horizon.
    - `horizon`: steps between two updates.
    - `epochs`, `minibatch`: an update's passes over the `walkers * horizon` moves, and the moves in a gradient step, drawn with
      replacement.
    - `learning_rate`: Adam's.
    - `discount`, `smoothing`: $\gamma$, and $\lambda$ of the generalised advantage estimate (Schulman et al., 2016).
    - `clip`: $\epsilon$, how far the probability of a move may go from what it was.
    - `value_weight`, `entropy_weight`: $c_1$ and $c_2$ of the loss.
    """

    steps: int = 500
    horizon: int = 20
    epochs: int = 3
    minibatch: int = 512
    learning_rate: float = 1e-3
    discount: float = 0.9
    smoothing: float = 0.99
    clip: float = 0.3
    value_weight: float = 1.0
    entropy_weight: float = 0.1


PUBLISHED = PPO()


class Agent(eqx.Module):
    """A policy and its critic, two perceptrons with tanh, and Adam's moments.

    Both look at a configuration as its option numbers divided by the numbers of options. The policy gives the logits of every
    knob's moves, the critic the discounted sum of the rewards to come.
    """

    graph: tuple[Any, Any] = eqx.field(static=True)
    weights: tuple[PyTree[Array], PyTree[Array]]
    moments: PyTree[Array]

    @classmethod
    def untrained(cls, knobs: int, *, key: PRNGKeyArray, width: int = 20) -> Self:
        """An agent for so many knobs, with random weights and two hidden layers of `width` units in each network."""
        graph, weights = _networks(knobs, width, key)
        return cls(graph, weights, ADAM.init(ravel_pytree(weights)[0]))

    def __call__(self, seen: Float[Array, "n k"]) -> tuple[Float[Array, "n k moves"], Float[Array, " n"]]:
        """The logits of every knob's moves, and the value, of n observations."""
        from flax import nnx

        policy, critic = (nnx.merge(graph, weights) for graph, weights in zip(self.graph, self.weights, strict=True))
        return policy(seen).reshape(*seen.shape, MOVES), critic(seen)[..., 0]


class Explored(NamedTuple):
    """The agent after its walks, and the configurations it came by with their scores, repeats included."""

    agent: Agent
    knobs: Int[Array, "n knobs"]
    scores: Float[Array, " n"]


class Walk(NamedTuple):
    """A stretch of w walkers' ways, or the moves of one step."""

    seen: Float[Array, "*t w knobs"]
    moves: Int[Array, "*t w knobs"]
    likelihood: Float[Array, "*t w"]
    value: Float[Array, "*t w"]
    knobs: Int[Array, "*t w knobs"]


@eqx.filter_jit
def explore(
    space: KnobSpace,
    scorer: Scorer,
    agent: Agent,
    *,
    key: PRNGKeyArray,
    start: Int[Array, "w knobs"],
    settings: PPO = PUBLISHED,
) -> Explored:
    r"""Walk from `start` and learn on the way: at each step every knob goes one option down, up, or stays.

    The reward of a move is the score of the configuration that it leads to, in standard deviations from the mean of the start's
    scores. The policy maximises, with $r_t$ the ratio of a move's new and old probability and $A_t$ its advantage,

    $$\mathbb E[\min(r_t A_t, \mathrm{clip}(r_t, 1 - \epsilon, 1 + \epsilon) A_t) - c_1 (V - V_{target})^2 + c_2 H].$$

    A move to an invalid configuration leaves the walker where it is. (The paper's spaces have no predicate.) All walks are of
    the same length; the authors' code ends one when three quarters of its knobs rest.

    **Arguments:**

    - `space`, `scorer`, `agent`: arguments of a jitted function, so that the next fit of the surrogate compiles nothing.
    - `start`: a valid configuration for each walker.

    **Returns:** the trained agent and the configurations seen, all valid, the start among them.
    """
    lengths = jnp.asarray(space.shape, jnp.int32)
    updates, size = -(-settings.steps // settings.horizon), settings.horizon * len(start)
    batches = settings.epochs * -(-size // settings.minibatch)
    # All chance is drawn here: each place where random numbers are made costs half a second to compile.
    walk_key, learn_key = jax.random.split(key)
    chances = jax.random.gumbel(walk_key, (updates, settings.horizon, *start.shape, MOVES))
    rows = jax.random.randint(learn_key, (updates, batches, min(settings.minibatch, size)), 0, size)

    def observe(knobs: Int[Array, "w knobs"]) -> Float[Array, "w knobs"]:
        return knobs / lengths

    def score(knobs: Int[Array, "*t w knobs"]) -> Float[Array, "*t w"]:
        return scorer(jnp.asarray(space.features(knobs.reshape(-1, len(lengths))))).reshape(knobs.shape[:-1])

    def step(agent: Agent, knobs: Int[Array, "w knobs"], chance: Float[Array, "w knobs moves"]) -> tuple[Array, Walk]:
        seen = observe(knobs)
        logits, value = agent(seen)
        moves = jnp.argmax(logits + chance, axis=-1)
        moved = jnp.clip(knobs + moves - 1, 0, lengths - 1)
        moved = jnp.where(space.valid(moved)[:, None], moved, knobs)
        return moved, Walk(seen, moves, _log_likelihood(jax.nn.log_softmax(logits), moves), value, moved)

    def update(
        state: tuple[Agent, Array], chance_and_rows: tuple[Array, Array]
    ) -> tuple[tuple[Agent, Array], tuple[Array, Array]]:
        (agent, knobs), (chance, rows) = state, chance_and_rows
        knobs, walk = jax.lax.scan(partial(step, agent), knobs, chance)
        scores = score(walk.knobs)
        advantage = advantages((scores - mean) / scale, walk.value, agent(observe(knobs))[1], settings)
        return (_learned(agent, walk, advantage, settings, rows), knobs), (walk.knobs, scores)

    first = score(start)
    mean, scale = first.mean(), jnp.where(first.std() > 0, first.std(), 1.0)
    (agent, _), (knobs, scores) = jax.lax.scan(update, (agent, start), (chances, rows))
    return Explored(
        agent,
        jnp.concatenate([start, knobs.reshape(-1, len(lengths))]),
        jnp.concatenate([first, scores.reshape(-1)]),
    )


def advantages(
    reward: Float[Array, "t w"], value: Float[Array, "t w"], last: Float[Array, " w"], settings: PPO
) -> Float[Array, "t w"]:
    r"""Generalised advantage estimates, $A_t = \delta_t + \gamma \lambda A_{t+1}$, $\delta_t = r_t + \gamma V_{t+1} - V_t$.

    The walks are cut off, not over: `last` is the value of where they stand.
    """
    surprise = reward + settings.discount * jnp.concatenate([value[1:], last[None]]) - value
    decay = settings.discount * settings.smoothing

    def back(later: Float[Array, " w"], now: Float[Array, " w"]) -> tuple[Float[Array, " w"], Float[Array, " w"]]:
        total = now + decay * later
        return total, total

    return jax.lax.scan(back, jnp.zeros_like(last), surprise, reverse=True)[1]


def _learned(agent: Agent, walk: Walk, advantage: Float[Array, "t w"], settings: PPO, rows: Int[Array, "batches b"]) -> Agent:
    """The agent after a gradient step on each of these batches of moves."""
    spread = jnp.where(advantage.std() > 0, advantage.std(), 1.0)
    lessons = walk, (advantage - advantage.mean()) / spread, advantage + walk.value
    lessons = jax.tree.map(lambda values: values.reshape(advantage.size, *values.shape[2:]), lessons)

    vector, tree_of = ravel_pytree(agent.weights)  # Adam is then one operation for all weights and not one for each array

    def loss(
        vector: Float[Array, " q"], walk: Walk, advantage: Float[Array, " b"], target: Float[Array, " b"]
    ) -> Float[Array, ""]:
        logits, value = eqx.tree_at(lambda agent: agent.weights, agent, tree_of(vector))(walk.seen)
        chances = jax.nn.log_softmax(logits)
        ratio = jnp.exp(_log_likelihood(chances, walk.moves) - walk.likelihood)
        clipped = jnp.clip(ratio, 1 - settings.clip, 1 + settings.clip)
        entropy = -(jnp.exp(chances) * chances).sum(axis=(-2, -1))
        gain = jnp.minimum(ratio * advantage, clipped * advantage) + settings.entropy_weight * entropy
        return (settings.value_weight * (value - target) ** 2 - gain).mean()

    def descend(state: tuple[Array, PyTree[Array]], rows: Int[Array, " b"]) -> tuple[tuple[Array, PyTree[Array]], None]:
        vector, moments = state
        gradient = jax.grad(loss)(vector, *jax.tree.map(lambda values: values[rows], lessons))
        direction, moments = ADAM.update(gradient, moments)
        return (vector - settings.learning_rate * direction, moments), None

    (vector, moments), _ = jax.lax.scan(descend, (vector, agent.moments), rows)
    return Agent(agent.graph, tree_of(vector), moments)


def _log_likelihood(chances: Float[Array, "n k moves"], moves: Int[Array, "n k"]) -> Float[Array, " n"]:
    """The log-probability of n joint moves of all knobs, by products: the gradient of a gather would be a scatter."""
    return (chances * jax.nn.one_hot(moves, MOVES)).sum(axis=(-2, -1))


@eqx.filter_jit
def _networks(knobs: int, width: int, key: PRNGKeyArray) -> tuple[tuple[Any, Any], tuple[PyTree[Array], PyTree[Array]]]:
    from flax import nnx  # imported late: half a second that other methods need not wait

    def network(outputs: int, key: PRNGKeyArray) -> Any:
        linear = partial(nnx.Linear, kernel_init=nnx.initializers.glorot_uniform(), rngs=nnx.Rngs(key))
        hidden = [linear(knobs, width), nnx.tanh, linear(width, width), nnx.tanh]
        return nnx.split(nnx.Sequential(*hidden, linear(width, outputs)))

    policy_key, critic_key = jax.random.split(key)
    (policy, policy_weights), (critic, critic_weights) = network(MOVES * knobs, policy_key), network(1, critic_key)
    return (policy, critic), (policy_weights, critic_weights)
