"""Factors of an extent read as spans that tiles cover, where tiles need not divide the extent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Int

from search.knobs import factorisations


def tile_loops(factors: Sequence[Any], tile: int) -> tuple[Any, ...]:
    """The loops over tiles that factors of rows, of columns or of filters mean: a span is covered by whole tiles.

    The inner factors' products are the spans of a register tile, a data tile and a chunk; (1, 1, 1, 7) means that a register
    tile spans seven rows, so that it has four tiles of two rows.

    **Returns:** how many chunks there are, data tiles in a chunk, register tiles in a data tile and tiles in a register tile.
    """
    loops: tuple[Any, ...] = ()
    span, covered = 1, tile
    for factor in reversed(factors):
        span = span * factor
        loops = (-(-span // covered), *loops)
        covered = covered * loops[0]
    return loops


def covers(factors: Int[Array, "n 4"], tile: int, extent: int) -> Bool[Array, " n"]:
    """Which factors of an extent mean loops that no others mean: every span is the largest that so many tiles cover."""
    return (factors[..., None, :] == _distinct(tile, extent)).all(-1).any(-1)


@lru_cache(maxsize=1024)
def _distinct(tile: int, extent: int) -> Int[np.ndarray, "m 4"]:
    factors = factorisations(extent, 4)
    largest = [*{-(-span // tile): span for span in factorisations(extent, 2)[:, 1].tolist()}.values()]
    spans = np.cumprod(factors[:, :0:-1], axis=1)  # of a register tile, a data tile and a chunk
    factors = factors[np.isin(spans, largest).all(axis=1)]
    loops = np.stack(tile_loops(list(factors.T), tile), axis=1)
    return factors[np.sort(np.unique(loops, axis=0, return_index=True)[1])]
