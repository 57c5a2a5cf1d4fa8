"""Factors of an extent read as spans that tiles cover, where tiles need not divide the extent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Int

from search.knobs import factorisations


def tile_loops(factors: Sequence[Any], extent: int) -> tuple[Any, ...]:
    """The loops over tiles of an extent that factors of rows, columns or filters mean: a span is covered by whole tiles.

    The inner factors' products are the spans of a register tile, a data tile and a chunk; (1, 1, 1, 7) means that a register
    tile spans seven rows, so that it has four tiles of extent 2.

    **Returns:** how many chunks there are, data tiles in a chunk, register tiles in a data tile and tiles in a register tile.
    """
    loops: tuple[Any, ...] = ()
    span, covered = 1, extent
    for factor in reversed(factors):
        span = span * factor
        loops = (-(-span // covered), *loops)
        covered = covered * loops[0]
    return loops


def largest_spans(factors: Int[Array, "n 4"], tile: int, whole: int) -> Bool[Array, " n"]:
    """Whether every span is the largest divisor of the `whole` that so many tiles cover: no two such mean the same tiles."""
    largest = np.array([*{-(-span // tile): span for span in factorisations(whole, 2)[:, 1].tolist()}.values()])
    register, data_tile, chunk = accumulate((factors[..., level] for level in (3, 2, 1)), mul)
    fits = [(span[..., None] == largest).any(-1) for span in (register, data_tile, chunk)]
    return fits[0] & fits[1] & fits[2]
