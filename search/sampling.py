"""Draws valid configurations of a product of knobs without repeats: by rejection, or from a list where that is short."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

if TYPE_CHECKING:
    from search.space import KnobSpace, Part

ENUMERABLE = 1 << 24
"""Up to this size a space that rejection sampling does not exhaust is listed in full."""

LISTED = 1 << 22
"""A part of at most this size is listed before it is drawn from, which takes less than a second and is done once."""

CHUNK = 1 << 16
"""Configurations that are looked at together: what is computed of them stays in the cache."""

PATIENCE = 1 << 24
"""Sampling gives up after this many draws without a new valid configuration."""


def draw(
    space: KnobSpace, part: Part, generator: np.random.Generator, n: int, excluded: Int[np.ndarray, " m"] | None
) -> Int[np.ndarray, "n knobs"]:
    """Draw valid configurations of a part of a space uniformly; fewer than n where it has no more.

    **Arguments:**

    - `excluded`: the sorted numbers of configurations not to draw.
    """
    tables = [np.asarray(options, np.int32) for options in part]
    shape = tuple(map(len, tables))
    size = math.prod(shape)
    if 4 * n < size:  # else most of the draws would be repeats
        drawn, exhausted = _reject(space, tables, generator, n, excluded)
        if not exhausted or size > ENUMERABLE:
            return drawn
    return shuffled(space, _listed(space, part), generator, n, excluded)


def _listed(space: KnobSpace, part: Part) -> Int[np.ndarray, "m knobs"]:
    """The valid configurations of a part; a space is asked for them round after round."""
    whole = type(space)(space.knobs, space.predicate)  # whatever else the space is divided into
    try:
        hash(whole)
    except TypeError:  # its predicate cannot be hashed
        return _listed_once.__wrapped__(whole, part)
    return _listed_once(whole, part)


@lru_cache(maxsize=256)  # the parts of all tasks of a network, which take turns
def _listed_once(space: KnobSpace, part: Part) -> Int[np.ndarray, "m knobs"]:
    tables = [np.asarray(options, np.int32) for options in part]
    shape = tuple(map(len, tables))
    size = math.prod(shape)
    listed = [np.empty((0, len(shape)), np.int32)]
    for first in range(0, size, CHUNK):
        numbers = np.arange(first, min(first + CHUNK, size))
        rows = _looked_up(tables, np.unravel_index(numbers, shape, order="F"))
        listed.append(rows[space.valid(rows)])
    return np.concatenate(listed)


def shuffled(
    space: KnobSpace,
    listed: Int[np.ndarray, "m knobs"],
    generator: np.random.Generator,
    n: int,
    excluded: Int[np.ndarray, " k"] | None,
) -> Int[np.ndarray, "n knobs"]:
    """Those of a list that are not excluded, in random order, up to n."""
    listed = listed[~_among(space, listed, excluded)]
    return listed[generator.permutation(len(listed))[:n]]


def draw_in_turns(
    space: KnobSpace,
    generator: np.random.Generator,
    n: int,
    excluded: Int[np.ndarray, " m"] | None,
) -> Int[np.ndarray, "n knobs"]:
    """Draw from a space's parts in turns, each by its share; where one has no more, the others take over."""
    parts = space.parts or ()
    order = np.roll(turns(space.shares), generator.integers(sum(space.shares)))
    counts = np.bincount(np.resize(order, n), minlength=len(parts))

    def drawn_of(part: Part, count: int) -> Int[np.ndarray, "m knobs"]:
        if count and math.prod(map(len, part)) <= LISTED:  # few may be valid, and a search comes back round after round
            return shuffled(space, _listed(space, part), generator, count, excluded)
        return draw(space, part, generator, count, excluded)

    drawn = [drawn_of(part, int(count)) for part, count in zip(parts, counts, strict=True)]
    while True:
        lengths = np.array([len(rows) for rows in drawn])
        missing, inexhausted = n - lengths.sum(), lengths == counts
        if missing <= 0 or not inexhausted.any():
            return in_turns(drawn, order)[:n]
        shares = np.where(inexhausted, space.shares, 0)
        counts = np.where(inexhausted, counts - (-missing * shares // shares.sum()), counts)
        drawn = [
            drawn_of(part, int(count)) if goes_on else rows
            for part, rows, count, goes_on in zip(parts, drawn, counts, inexhausted, strict=True)
        ]


def turns(shares: Sequence[int]) -> Int[np.ndarray, " turns"]:
    """One round: whose turn it is, each as often as its share, evenly spread, everybody early once."""
    owner = np.repeat(np.arange(len(shares)), shares)
    time = np.concatenate([np.arange(share) / share for share in shares])
    return owner[np.argsort(time, kind="stable")]


def in_turns(lists: Sequence[Int[np.ndarray, "_ knobs"]], order: Int[np.ndarray, " turns"]) -> Int[np.ndarray, "n knobs"]:
    """The lists' rows, each in the turns of its list, round after round."""
    times = []
    for owner, rows in enumerate(lists):
        own = np.flatnonzero(order == owner)
        rounds, turn = np.divmod(np.arange(len(rows)), len(own))
        times.append(rounds * len(order) + own[turn])
    return np.concatenate(lists)[np.argsort(np.concatenate(times), kind="stable")]


def _reject(
    space: KnobSpace,
    tables: Sequence[Int[np.ndarray, " options"]],
    generator: np.random.Generator,
    n: int,
    excluded: Int[np.ndarray, " m"] | None,
) -> tuple[Int[np.ndarray, "n knobs"], bool]:
    """Rejection sampling; also tells whether it gave up."""
    shape = list(map(len, tables))
    kept = np.empty((0, len(shape)), np.int32)
    fruitless, tried, chunk = 0, 0, max(1024, 2 * n)
    size = math.prod(shape)
    patience = min(PATIENCE, 4 * size)
    while len(kept) < n:
        if fruitless >= patience or (size <= ENUMERABLE and tried * n >= size * max(1, len(kept))):
            return kept, True  # what is left to draw would cost more than a list
        drawn = _looked_up(tables, generator.integers(0, shape, size=(chunk, len(shape)), dtype=np.int32).T)
        drawn = drawn[space.valid(drawn)]
        drawn = drawn[~_among(space, drawn, excluded)]
        merged = np.concatenate([kept, drawn])
        _, first = np.unique(space.numbers(merged), return_index=True)
        fruitless, tried = 0 if len(first) > len(kept) else fruitless + chunk, tried + chunk
        kept = merged[np.sort(first)]
        chunk = min(1 << 18, 2 * chunk)
    return kept[:n], False


def _looked_up(tables: Sequence[Int[np.ndarray, " options"]], places: Iterable[np.ndarray]) -> Int[np.ndarray, "n knobs"]:
    """The options at places of each knob's own list."""
    return np.stack([table[place] for table, place in zip(tables, places, strict=True)], axis=1)


def _among(
    space: KnobSpace, knobs: Int[np.ndarray, "n knobs"], excluded: Int[np.ndarray, " m"] | None
) -> Bool[np.ndarray, " n"]:
    """Tell which configurations are excluded."""
    if excluded is None:
        return np.zeros(len(knobs), bool)
    index = space.numbers(knobs)
    place = np.minimum(np.searchsorted(excluded, index), len(excluded) - 1)
    return (excluded[place] == index).astype(bool)
