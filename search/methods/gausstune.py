"""The project's own method: Gaussian processes that begin with what is known, and ask where improvement is to be expected."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Int, PRNGKeyArray

from search.candidates import highest, promising
from search.driver import Search
from search.expected_improvement import Acquisition, believed_batch, expected_improvement
from search.history import Source, remembered
from search.space import KnobSpace
from search.ted import bted
from search.transfer import Lesson, exact_elites, lessons, pooled, stacked
from surrogates.base import Surrogate
from surrogates.constant import Constant
from surrogates.deep_gp import DeepGP
from surrogates.exact_gp import ExactGP
from surrogates.residual import Residual
from surrogates.square_root import SquareRoot

FAVOURITES = 40_000
"""Random configurations among which a score's favourites are looked for: as many as the ICCV paper's r."""

HEARD, TASKS = 256, 8
"""Measurements of another task that a process of its own learns, and of how many tasks there is one.

The cost of each is cubic, and where there is no model of the whole all of them score all candidates of every batch.
"""


def gausstune(
    space: KnobSpace,
    *,
    key: PRNGKeyArray,
    history: Sequence[Source] = (),
    surrogate: Surrogate | None = None,
    pretrained: Surrogate | None = None,
    process: ExactGP | None = None,
    first: int = 8,
    diverse: bool = True,
    replayed: float = 0.75,
    apart: bool = True,
    batch: int = 8,
    trusted: float = 1.0,
    halving: float = 64.0,
    rough: bool = True,
    acquisition: Acquisition = expected_improvement,
    pool: int = 8192,
    leaders: int = 4,
    limit: int = 1024,
) -> Search:
    """Small batches of the largest expected improvement, the earlier the more of them believing the history.

    The first batch represents the space (BTED). From then on a Gaussian process learns what was measured and picks where it
    expects the best to be improved, among random configurations and those one knob away from the best.

    Of a history, most of the first batch are the other tasks' best configurations, as far as this space has the very same; the
    other places take the favourites of a deep Gaussian process that learned all tasks, throughputs as shares of their task's
    best. Later there are two beliefs. One knows this task alone. The other has heard of others: it weighs the deep process, or
    where none was needed a process of each of the `TASKS` tasks that were measured most, by how far this task bears them out,
    and has a Gaussian process for what is left. Its part of a batch shrinks as measurements come in, down to one pick: a
    history that misleads costs the first batches and one pick of each later one, and where a part of it misleads, the other is
    believed. Tasks whose measurements follow no rule are left out; see `search.transfer.lessons`.

    Throughputs are learned as square roots, in which a failure is just a 0.

    **Arguments:**

    - `history`: other tasks' measurements, with the features of this space.
    - `surrogate`: the model of the whole history, of square roots of shares of each task's best; None for a `DeepGP`. It is
      fitted if the first batch has places for its favourites.
    - `pretrained`: a fitted model whose score ranks this space's features, say one that was saved, in place of those that are
      fitted to the history; the history then is replayed only.
    - `process`: the Gaussian processes' recipe, of this task and of each other; None for `ExactGP()`.
    - `first`, `replayed`: configurations of the first batch, and the part of them that are other tasks' best.
    - `apart`: whether the history's tasks are judged one by one, and are weighed so if there is no model of the whole.
    - `diverse`: whether the others of the first batch represent the space (BTED), or are drawn at random.
    - `batch`, `trusted`, `halving`: configurations of a later batch, and the part that the belief in the history picks, rounded
      up; it is halved after so many measurements, as AutoTVM's transfer is.
    - `rough`, `acquisition`: whether every second pick takes what the process calls noise for roughness, and what a candidate
      is worth; see `believed_batch`.
    - `pool`, `leaders`: random candidates a batch, and of how many of the best the neighbours are candidates.
    - `limit`: of more measurements the beliefs learn the best half and the latest half of so many; of other tasks' at most
      `HEARD`.

    **Raises:** `ValueError` for a number out of range, or for a history whose features are not those of `space`.
    """
    if min(first, limit) < 2 or min(batch, pool) < 1 or leaders < 0:
        raise ValueError(
            f"first, limit, batch, pool, leaders: {first}, {limit}, {batch}, {pool}, {leaders} must be at least 2, 2, 1, 1, 0."
        )
    if not (0 <= replayed <= 1 and 0 <= trusted <= 1):
        raise ValueError(f"replayed, trusted: {replayed}, {trusted} must be parts, from 0 to 1.")
    if not halving > 0:
        raise ValueError(f"halving: {halving} must be above 0; math.inf never halves.")
    if history:
        pooled(history, space)  # which refuses other features
    recipe = ExactGP() if process is None else process
    carrier = DeepGP() if surrogate is None else surrogate

    def search() -> Search:
        next_key, learn_key, replay_key, start_key = jax.random.split(key, 4)
        one = pretrained is not None or not apart  # model that is heard, not one of each source
        taught = [Lesson(source) for source in history]
        if not one:
            taught = lessons(history, recipe, limit=min(limit, HEARD), most=TASKS)
        sources = [lesson.source for lesson in taught]
        places = round(replayed * first)
        best, score = exact_elites(sources, space, places)[:places], pretrained
        if score is None and (len(best) < places or one) and sum(len(source.throughput) for source in sources) > 1:
            known = pooled(sources, space)
            score = SquareRoot(carrier).fit(known.x, known.y, key=learn_key)
        if score is not None:
            best = np.concatenate([best, _favourites(space, score, places - len(best), exclude=best, key=replay_key)])
        heard = stacked(taught, score)
        own = Residual(Constant(), exact=recipe, exact_limit=limit)
        told = None if heard is None else Residual(heard, exact=recipe, exact_limit=limit)
        others = (
            bted(space, key=start_key, count=first, exclude=best) if diverse else space.sample(start_key, first, exclude=best)
        )
        chosen = np.concatenate([best, others])[:first]
        knobs, throughput = chosen[:0], np.empty(0)
        while len(chosen):
            throughput = np.append(throughput, (yield chosen))
            knobs = np.concatenate([knobs, chosen])
            next_key, draw_key, fit_key = jax.random.split(next_key, 3)
            rows = remembered(throughput, limit)
            x, y = space.features(knobs[rows]), np.sqrt(throughput[rows])
            trust = math.ceil(batch * trusted * 2 ** (-len(knobs) / halving)) if told is not None else 0
            candidates, chosen = promising(space, knobs, throughput, pool=pool, leaders=leaders, key=draw_key), chosen[:0]
            for belief, share in ((told, trust), (own, batch - trust)):
                if belief is not None and share and len(candidates):
                    process, seen, mean = belief.adapt(x, y, key=fit_key).parts(space.features(candidates))
                    assert isinstance(process, ExactGP)
                    picked = believed_batch(
                        process, seen, float(y.max()), batch, known=mean, rough=rough, acquisition=acquisition
                    )[:share]
                    chosen = np.concatenate([chosen, candidates[picked]])
                    candidates = np.delete(candidates, picked, axis=0)

    return search()


def _favourites(
    space: KnobSpace, score: Surrogate, count: int, *, exclude: Int[np.ndarray, "m knobs"], key: PRNGKeyArray
) -> Int[np.ndarray, "count knobs"]:
    """What a score holds best of `FAVOURITES` random configurations.

    They take the places of other tasks' best ones that this space does not have: a translation to other extents would be a
    guess, and the model's guess is the better one.
    """
    draw_key, tie_key = jax.random.split(key)
    drawn = space.sample(draw_key, FAVOURITES if count else 0, exclude=exclude)
    return highest(space, score.scorer(), drawn, count, key=tie_key)
