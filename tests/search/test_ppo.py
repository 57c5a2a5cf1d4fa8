"""Walks stay in the space and end where the surrogate is high; the estimates of advantage are those of the paper."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from search import KnobSpace, Option
from search.ppo import PPO, Agent, advantages, explore

KEY = jax.random.key(0)
SETTINGS = PPO(steps=60, horizon=10, minibatch=80, learning_rate=0.01)


class Bowl(eqx.Module):
    """High at one place of the features."""

    middle: jax.Array
    depth: jax.Array
    traced: list = eqx.field(static=True, default_factory=list)

    def __call__(self, x):
        self.traced.append(1)
        return -self.depth * ((x - self.middle) ** 2).sum(axis=-1)


def sieve(choice):
    return (choice["a"] + choice["b"]) % 7 != 0


SPACE = KnobSpace([Option("a", tuple(range(40))), Option("b", tuple(range(30))), Option("only", (3,))], sieve, encoding="raw")
BOWL = Bowl(jnp.array([30.0, 5.0, 3.0]), jnp.float32(1))
START = jnp.asarray(SPACE.sample(KEY, 16))


def walk(agent, *, key=KEY, scorer=BOWL):
    return explore(SPACE, scorer, agent, key=key, start=START, settings=SETTINGS)


def scaled(depth):
    return eqx.tree_at(lambda bowl: bowl.depth, BOWL, jnp.float32(depth))


@pytest.fixture(scope="module")
def untrained():
    return Agent.untrained(3, key=KEY)


@pytest.fixture(scope="module")
def walks(untrained):
    """Several explorations by one agent."""
    agent, seen = untrained, []
    for key in jax.random.split(KEY, 8):
        seen.append(walk(agent, key=key))
        agent = seen[-1].agent
    return seen


def test_walks_begin_at_the_start_and_stay_valid(walks):
    for seen in walks:
        assert seen.knobs.shape == (16 * 61, 3)
        np.testing.assert_array_equal(seen.knobs[:16], START)
        assert SPACE.valid(np.asarray(seen.knobs)).all()
        assert (np.asarray(seen.knobs) < SPACE.shape).all()


def test_walkers_go_one_option_at_a_time(walks):
    steps = np.diff(np.asarray(walks[-1].knobs).reshape(61, 16, 3), axis=0)
    assert np.abs(steps).max() == 1


def test_scores_are_those_of_the_configurations(walks):
    for seen in walks:
        np.testing.assert_allclose(seen.scores, BOWL(SPACE.features(seen.knobs)), rtol=1e-5)


def test_agent_learns_where_to_go(walks):
    """Where chance leads from the same start is about -350."""
    ends = np.array([np.asarray(seen.scores[-160:]).mean() for seen in walks])
    assert ends[-3:].mean() > -80


def test_next_fit_compiles_nothing(walks, untrained):
    traced = len(BOWL.traced)
    walk(untrained, scorer=eqx.tree_at(lambda bowl: bowl.middle, BOWL, jnp.zeros(3)))
    assert len(BOWL.traced) == traced


def test_only_chance_matters_and_not_the_unit_of_the_scores(walks, untrained):
    first = jax.random.split(KEY, 8)[0]
    for again in (walk(untrained, key=first), walk(untrained, key=first, scorer=scaled(1024))):
        np.testing.assert_array_equal(again.knobs, walks[0].knobs)
    assert (walk(untrained, key=KEY).knobs != walks[0].knobs).any()


def test_constant_scores_are_borne(walks, untrained):
    seen = walk(untrained, scorer=scaled(0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(seen.agent.weights))


def test_advantages_are_discounted_sums_of_surprises():
    generator = np.random.default_rng(0)
    reward, value, last = generator.normal(size=(6, 2)), generator.normal(size=(6, 2)), generator.normal(size=2)
    settings = PPO(discount=0.8, smoothing=0.7)
    surprise = reward + 0.8 * np.concatenate([value[1:], last[None]]) - value
    expected = [sum(0.56 ** (later - t) * surprise[later] for later in range(t, 6)) for t in range(6)]
    found = advantages(jnp.asarray(reward), jnp.asarray(value), jnp.asarray(last), settings)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
