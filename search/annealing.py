"""Simulated annealing on a surrogate: AutoTVM's search (Chen et al., NeurIPS 2018) and Sun et al.'s (ICCV 2021)."""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from search.pool import Pool
from search.space import Arrays, KnobSpace
from surrogates.base import Scorer
from surrogates.chunks import in_chunks, power_of_two

TRIES = 4
"""One-knob moves that a chain draws at each step; it goes for the first that is valid."""

LEAST_ROWS = 1024
"""Lists of any length are padded to so many rows, and beyond to powers of two."""


class Annealed(NamedTuple):
    """What a search found.

    - `knobs`: the best configurations, best first: distinct, valid, none of those excluded.
    - `scores`: their scores.
    - `chains`: where the chains ended, to go on from there.
    - `explored`: how many configurations were scored, repeats included.
    """

    knobs: Int[np.ndarray, "keep knobs"]
    scores: Float[np.ndarray, " keep"]
    chains: Int[np.ndarray, "chains knobs"]
    explored: int


def anneal(
    space: KnobSpace,
    scorer: Scorer,
    *,
    key: PRNGKeyArray,
    keep: int = 64,
    exclude: Int[Arrays, "m knobs"] | None = None,
    start: Int[Arrays, "s knobs"] | None = None,
    chains: int = 128,
    steps: int = 500,
    patience: int | None = 50,
    explored: int | None = None,
    temperature: tuple[float, float] = (0.1, 0.0),
) -> Annealed:
    r"""Find the configurations that a surrogate scores highest.

    Parallel chains change one random knob at a time. A move from score f to f' is accepted with probability
    $\min(1, \exp((f' - f) / T))$; T falls linearly. Only valid configurations are scored: a chain that draws none stays where
    it is, or jumps to a random row of the pool to which the space is confined, where a one-knob move may lead nowhere.

    A space with no more configurations than the chains may score is scored in full, as is what is left when that is less than
    `chains` or `keep`. The result is exact then.

    **Arguments:**

    - `scorer`: a surrogate's `scorer()`, `(n, d) features -> (n,)`, higher is better. It is an argument of the jitted search:
      the next fit, of the same shapes, compiles nothing.
    - `keep`: how many configurations to return.
    - `exclude`: configurations not to return, say those measured already; chains may walk through them.
    - `start`: where the first chains start; the others start at random.
    - `chains`, `steps`: how many chains, and how many moves of each at most.
    - `patience`: stop after so many steps without a change among the best `keep`; None for never. AutoTVM has 50, and Sun et
      al. have 600.
    - `explored`: stop before more configurations are scored, Sun et al. at 40 000; None for no limit. The start takes `chains`
      and as many again, or `keep` if that is more.
    - `temperature`: T at the first and after the last step, in standard deviations of the scores of random configurations,
      for surrogates have various units. (AutoTVM's is 1 in the units of its ranking scores, whose deviation is several.)

    **Returns:** the best `keep` configurations seen, fewer only where the space has no more.

    **Raises:** `ValueError` if a number is too small or a temperature negative.
    """
    for name, value, least in (("keep", keep, 1), ("chains", chains, 1), ("steps", steps, 1), ("patience", patience, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name}: {value} must be at least {least}.")
    if explored is not None and explored < chains + max(chains, keep):
        raise ValueError(f"explored: {explored} must be at least {chains + max(chains, keep)}, which the start takes.")
    if min(temperature) < 0:
        raise ValueError(f"temperature: {temperature} must not be negative.")
    draw_key, walk_key = jax.random.split(key)
    affordable = min(chains * steps, math.inf if explored is None else explored)
    enumerable, enough = space.size <= affordable, max(chains, keep)
    drawn = space.sample(draw_key, space.size if enumerable else enough, exclude=exclude)
    if enumerable or len(drawn) < enough:
        return _exhaust(space, scorer, drawn, keep, chains)
    given = np.empty_like(drawn[:0]) if start is None else np.asarray(start, np.int32)
    given = given[space.valid(given)][:chains]
    kept, chain, count = _anneal(
        space,
        scorer,
        jnp.asarray(drawn),
        jnp.asarray(np.concatenate([given, drawn])[:chains]),
        _membership(space, exclude),
        key=walk_key,
        keep=keep,
        steps=jnp.int32(steps),
        patience=jnp.int32(steps if patience is None else patience),
        limit=jnp.int32(np.iinfo(np.int32).max if explored is None else explored),
        temperature=jnp.array(temperature, jnp.float32),
    )
    return Annealed(np.asarray(kept.knobs), np.asarray(kept.scores), np.asarray(chain.knobs), int(count))


class _Scored(NamedTuple):
    knobs: Int[Array, "n knobs"]
    scores: Float[Array, " n"]


class _State(NamedTuple):
    step: Int[Array, ""]
    gained: Int[Array, ""]
    explored: Int[Array, ""]
    chains: _Scored
    kept: _Scored


@eqx.filter_jit
def _anneal(
    space: KnobSpace,
    scorer: Scorer,
    drawn: Int[Array, "n knobs"],
    start: Int[Array, "chains knobs"],
    excluded: Pool,
    *,
    key: PRNGKeyArray,
    keep: int,
    steps: Int[Array, ""],
    patience: Int[Array, ""],
    limit: Int[Array, ""],
    temperature: Float[Array, " 2"],
) -> tuple[_Scored, _Scored, Int[Array, ""]]:
    """The best, the chains at their end, and how many configurations were scored."""

    def scored(knobs: Int[Array, "n knobs"]) -> _Scored:
        return _Scored(knobs, scorer(jnp.asarray(space.features(knobs))))

    def unfinished(state: _State) -> Bool[Array, ""]:
        affordable = state.explored + len(start) <= limit
        return (state.step < steps) & (state.step - state.gained < patience) & affordable

    def advance(state: _State) -> _State:
        bits = jax.random.bits(
            jax.random.fold_in(key, state.step), (2 * TRIES + 2, len(start))
        )  # one draw: it is slow to compile
        moves, moved = _moves(space, state.chains.knobs, bits[1:])
        proposed = scored(moves)
        # As AutoTVM cools: the last temperature is that after the last step.
        heat = scale * (temperature[0] + (temperature[1] - temperature[0]) * state.step / (steps + 1))
        climb = proposed.scores - state.chains.scores
        accepted = jnp.log(bits[0] * 2.0**-32) * heat <= climb
        chains = jax.tree.map(lambda new, old: _where(accepted, new, old), proposed, state.chains)
        kept, gain = _merge(state.kept, proposed, excluded)
        step = state.step + 1
        return _State(step, jnp.where(gain, step, state.gained), state.explored + moved.sum(), chains, kept)

    randoms, chains = scored(drawn), scored(start)
    scale = randoms.scores.std()
    kept, _ = _merge(_best(randoms, keep), chains, excluded)
    state = _State(jnp.int32(0), jnp.int32(0), jnp.int32(len(drawn) + len(start)), chains, kept)
    state = jax.lax.while_loop(unfinished, advance, state)
    return state.kept, state.chains, state.explored


def _moves(
    space: KnobSpace, knobs: Int[Array, "chains knobs"], bits: UInt32[Array, "draws chains"]
) -> tuple[Int[Array, "chains knobs"], Bool[Array, " chains"]]:
    """Each chain's next configuration, and whether it is another: a chain without a valid move stays."""
    lengths = jnp.asarray(space.shape, jnp.uint32)
    movable = jnp.asarray(np.flatnonzero(np.array(space.shape) > 1))
    column = movable[bits[:TRIES] % len(movable)]
    shift = 1 + bits[TRIES : 2 * TRIES] % (lengths[column] - 1)
    here = jnp.arange(len(lengths)) == column[..., None]
    tried = jnp.where(here, (knobs + shift[..., None]) % lengths, knobs).astype(jnp.int32)
    if space.pool is not None:
        tried = jnp.concatenate([tried, jnp.asarray(space.pool.rows)[bits[-1:] % len(space.pool)]])
    valid = jnp.asarray(space.valid(tried.reshape(-1, knobs.shape[1]))).reshape(tried.shape[:-1])
    moves = tried[jnp.argmax(valid, axis=0), jnp.arange(len(knobs))]
    moved = valid.any(axis=0)
    return _where(moved, moves, knobs), moved


def _merge(kept: _Scored, seen: _Scored, excluded: Pool) -> tuple[_Scored, Bool[Array, ""]]:
    """The best of what was kept and what was seen, and whether it changed. What once left the list never comes back."""
    repeats = jnp.tril(_same(seen.knobs, seen.knobs), -1).any(axis=1) | _same(seen.knobs, kept.knobs).any(axis=1)
    new = (seen.scores > kept.scores[-1]) & ~repeats & ~jnp.asarray(excluded.contains(seen.knobs))
    both = _Scored(
        jnp.concatenate([kept.knobs, seen.knobs]),
        jnp.concatenate([kept.scores, jnp.where(new, seen.scores, -jnp.inf)]),
    )
    return _best(both, len(kept.scores)), new.any()


def _best(scored: _Scored, keep: int) -> _Scored:
    scores, rows = jax.lax.top_k(scored.scores, keep)
    return _Scored(scored.knobs[rows], scores)


def _same(left: Int[Array, "n knobs"], right: Int[Array, "m knobs"]) -> Bool[Array, "n m"]:
    return (left[:, None] == right[None]).all(axis=-1)


def _where(mask: Bool[Array, " n"], new: Array, old: Array) -> Array:
    return jnp.where(mask.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _membership(space: KnobSpace, exclude: Int[Arrays, "m knobs"] | None) -> Pool:
    """The excluded configurations, padded with what is none."""
    rows = np.empty((0, len(space.knobs)), np.int32) if exclude is None else np.asarray(exclude, np.int32)
    return Pool(np.pad(rows, ((0, _missing(rows)), (0, 0)), constant_values=-1), space.shape)


def _exhaust(space: KnobSpace, scorer: Scorer, rows: Int[np.ndarray, "n knobs"], keep: int, chains: int) -> Annealed:
    """The best of these rows, all of them scored. They are in random order, so that ties are broken at random."""
    features = np.pad(space.features(rows), ((0, _missing(rows)), (0, 0)))
    scores = np.asarray(_score(scorer, jnp.asarray(features)))[: len(rows)]
    order = np.argsort(-scores, kind="stable")
    return Annealed(rows[order[:keep]], scores[order[:keep]], rows[order[:chains]], len(rows))


def _missing(rows: Int[np.ndarray, "n knobs"]) -> int:
    """How many rows to append, so that few shapes are ever compiled."""
    return max(LEAST_ROWS, power_of_two(len(rows))) - len(rows)


@eqx.filter_jit
def _score(scorer: Scorer, features: Float[Array, "n d"]) -> Float[Array, " n"]:
    return in_chunks(scorer, features)
