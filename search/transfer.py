"""What other tasks' measurements say about a space: data and models to learn from, and their best configurations translated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from search.history import Source, remembered
from search.rows import distinct, nearest
from search.space import KnobSpace
from surrogates.base import Surrogate
from surrogates.exact_gp import ExactGP
from surrogates.pooling import Pool, pool
from surrogates.stacked import Stacked

RULE, ENOUGH = 0.1, 128
"""Of so many measurements, the least part of the variance that a process explains where there is a rule.

Of recorded layers and tables it explains several times as much, of permuted ones less. Of a few dozen that were tuned, and are
often alike, it may explain nothing though there is a rule.
"""

LEAST_MERIT = 0.1
"""The merit of a source that has too few measurements to tell."""


def pooled(history: Sequence[Source], space: KnobSpace) -> Pool:
    """All sources as one data set: features, and throughput as a share of the source's best.

    **Raises:** `ValueError` if there are none, one is empty, or one has other features than `space`.
    """
    for source in history:
        if source.space.feature_names != space.feature_names or source.space.encoding != space.encoding:
            raise ValueError(
                f"history: {source.name} has the features {list(source.space.feature_names)} in {source.space.encoding}, this "
                f"space has {list(space.feature_names)} in {space.encoding}; give tasks of the same operator and target."
            )
    return pool([(np.asarray(source.space.features(source.knobs)), source.throughput) for source in history])


class Lesson(NamedTuple):
    """What a source teaches.

    - `process`: learned of the square roots of its throughputs; None if they are all alike, or others have more to say.
    - `merit`: R, the root of the part of their variance that the process explains of points it has not seen; 0 without one.
    """

    source: Source
    process: ExactGP | None = None
    merit: float = 0.0


def lessons(history: Sequence[Source], recipe: ExactGP, *, limit: int, most: int) -> list[Lesson]:
    """The sources that teach something, those with the most measurements with a process of its own.

    A source that follows no rule (of `ENOUGH` measurements or more, less than `RULE` is explained) is left out: its best ones
    were luck or noise, and elsewhere are nothing.

    **Arguments:**

    - `history`: sources with the features of one space, which `pooled` checks.
    - `limit`: of a source with more measurements the best half and the latest half of so many are learned.
    - `most`: so many sources get a process.
    """
    largest = sorted(range(len(history)), key=lambda number: -len(history[number].throughput))[:most]
    taught = list[Lesson]()
    for number, source in enumerate(history):
        rows = remembered(source.throughput, limit)
        x, y = np.asarray(source.space.features(source.knobs[rows])), np.sqrt(source.throughput[rows])
        if number not in largest or not len(y) or y.max() == y.min():
            taught.append(Lesson(source))
            continue
        process = recipe.fit(x, y, key=jax.random.key(0))  # which an exact process does not use
        explained = 1.0 - float(((y - process.left_out()) ** 2).mean() / y.var())
        if explained >= RULE or len(y) < ENOUGH:
            taught.append(Lesson(source, process, max(explained, LEAST_MERIT**2) ** 0.5))
    return taught


def stacked(taught: Sequence[Lesson], whole: Surrogate | None = None) -> Stacked | None:
    """What others say, to be weighed as measurements bear it out: a model of them all, or the lessons' processes without one.

    None if there are none. A model of all tasks has learned what each says, and has no process of one beside it.
    """
    if whole is not None:
        return Stacked((whole,))
    heard = [(process, merit) for _, process, merit in taught if process is not None]
    return Stacked(tuple(process for process, _ in heard), tuple(merit for _, merit in heard)) if heard else None


def elites(
    history: Sequence[Source], space: KnobSpace, count: int, *, key: PRNGKeyArray, candidates: int = 4096
) -> Int[np.ndarray, "m knobs"]:
    """The sources' best configurations as this space can have them.

    A configuration is translated knob by knob to the option whose features are nearest: of a split, the factors most alike.
    Where the result is not valid, the nearest of `candidates` random valid configurations takes its place.

    **Arguments:**

    - `history`: sources with the features of `space`, which `pooled` checks.
    - `count`: how many of each source; those that failed do not count.

    **Returns:** distinct valid configurations: all sources' best ones, then all second ones, and so on; maybe none.
    """
    features = _features_of_best(history, space, count)
    knobs = _nearest_options(space, features)
    invalid = ~space.valid(knobs)
    if invalid.any():
        drawn = space.sample(key, candidates)
        if not len(drawn):
            return drawn
        knobs[invalid] = drawn[nearest(features[invalid], space.features(drawn))[0]]
    return distinct(knobs)


def exact_elites(history: Sequence[Source], space: KnobSpace, count: int) -> Int[np.ndarray, "m knobs"]:
    """Those of the sources' best configurations that this space has as they are, in the order of `elites`."""
    features = _features_of_best(history, space, count)
    knobs = _nearest_options(space, features)
    same = (space.features(knobs) == features).all(axis=1) & space.valid(knobs)
    return distinct(knobs[same])


def _features_of_best(history: Sequence[Source], space: KnobSpace, count: int) -> Float[np.ndarray, "n d"]:
    """Features of all sources' best ones, then of all second ones, up to `count` of each."""
    best, ranks = [np.empty((0, len(space.feature_names)), np.float32)], [np.empty(0, int)]
    for source in history:
        order = np.argsort(-source.throughput, kind="stable")[: min(count, (source.throughput > 0).sum())]
        best.append(np.asarray(source.space.features(source.knobs[order])))
        ranks.append(np.arange(len(order)))
    return np.concatenate(best)[np.argsort(np.concatenate(ranks), kind="stable")]


def _nearest_options(space: KnobSpace, features: Float[np.ndarray, "n d"]) -> Int[np.ndarray, "n knobs"]:
    """Each knob's option whose feature columns are nearest."""
    columns, first = [], 0
    for place, knob in enumerate(space.knobs):
        own = slice(first, first + knob.table.shape[1])
        options = np.zeros((len(knob.table), len(space.knobs)), np.int32)
        options[:, place] = np.arange(len(options))
        columns.append(nearest(features[:, own], space.features(options)[:, own])[0])
        first = own.stop
    return np.stack(columns, axis=1).astype(np.int32)
