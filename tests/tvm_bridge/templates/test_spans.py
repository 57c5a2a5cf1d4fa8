"""Factors read as spans of tiles: loops cover the extent, and no two that are admitted mean the same."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.knobs import factorisations
from tvm_bridge.templates.spans import covers, tile_loops


@pytest.mark.parametrize(
    ("factors", "tile", "loops"),
    [
        ((2, 7, 1, 4), 2, (2, 7, 1, 2)),
        ((1, 1, 1, 7), 2, (1, 1, 1, 4)),
        ((7, 1, 1, 1), 2, (4, 1, 1, 1)),
        ((1, 1, 13, 1), 4, (1, 1, 4, 1)),
        ((5, 1, 11, 1), 4, (5, 1, 3, 1)),
        ((1, 100, 1, 10), 16, (1, 63, 1, 1)),
    ],
)
def test_factors_mean_loops_over_tiles(factors, tile, loops):
    assert tile_loops(factors, tile) == loops


@given(st.integers(1, 60), st.sampled_from([2, 4, 16]), st.data())
def test_tiles_cover_every_span(extent, tile, data):
    factors = data.draw(st.sampled_from(factorisations(extent, 4).tolist()))
    loops = tile_loops(factors, tile)
    for inner in range(4):
        assert math.prod(loops[inner:]) * tile >= math.prod(factors[inner:])
    if factors[3] % tile == 0:
        assert loops == (*factors[:3], factors[3] // tile)


@given(st.integers(1, 200) | st.just(1000), st.sampled_from([2, 4, 16]))
def test_no_two_factorisations_that_cover_mean_the_same_loops(extent, tile):
    factors = factorisations(extent, 4)
    chosen = factors[covers(factors, tile, extent)]
    loops = {tile_loops(tuple(row), tile) for row in chosen.tolist()}
    assert len(loops) == len(chosen) > 0
