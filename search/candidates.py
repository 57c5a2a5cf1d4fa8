"""Where a search looks for the next configurations: anywhere, one knob away from the best, and where a score is highest."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from search.pool import Pool
from search.rows import distinct
from search.space import KnobSpace
from surrogates.base import Scorer
from surrogates.chunks import scores


def promising(
    space: KnobSpace,
    knobs: Int[np.ndarray, "n knobs"],
    throughput: Float[np.ndarray, " n"],
    *,
    pool: int,
    leaders: int,
    key: PRNGKeyArray,
) -> Int[np.ndarray, "m knobs"]:
    """Valid configurations that were not measured: `pool` random ones, and those one knob away from the best `leaders`.

    **Arguments:**

    - `knobs`, `throughput`: what was measured, at least one.
    """
    drawn = space.sample(key, pool, exclude=knobs)
    best = knobs[np.argsort(-throughput, kind="stable")[:leaders]]
    near = np.concatenate([knobs[:0], *(one_knob_away(space, row) for row in best)])
    near = near[np.asarray(space.valid(near)) & ~Pool(knobs, space.shape).contains(near)]
    return distinct(np.concatenate([drawn, near]))


def one_knob_away(space: KnobSpace, knobs: Int[np.ndarray, " knobs"]) -> Int[np.ndarray, "m knobs"]:
    """Every configuration of the product that differs in one knob, valid or not."""
    column = np.repeat(np.arange(len(space.shape)), space.shape)
    rows = np.repeat(knobs[None], len(column), axis=0)
    rows[np.arange(len(column)), column] = np.concatenate([np.arange(length) for length in space.shape])
    return rows[(rows != knobs).any(axis=1)]


def highest(
    space: KnobSpace, scorer: Scorer, candidates: Int[np.ndarray, "n knobs"], count: int, *, key: PRNGKeyArray
) -> Int[np.ndarray, "count knobs"]:
    """The candidates of the highest scores, best first (Sun et al., DATE 2021, Algorithm 3, line 6).

    Ties are broken at random: trees are constant over much of a neighbourhood, whose first rows are all in one corner.
    """
    score = scores(scorer, np.asarray(space.features(candidates)))
    ties = np.random.default_rng(np.asarray(jax.random.key_data(key))).permutation(len(score))
    return candidates[ties[np.argsort(-score[ties], kind="stable")[:count]]]
