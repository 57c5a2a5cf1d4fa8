"""Winograd's part of the enlarged space: where it is, that it is drawn from and changes no other."""

import math
import pickle
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tvm_bridge.templates import cpu_checks as checks
from tests.tvm_bridge.templates import space_checks
from tvm_bridge.convolution import Conv2d
from tvm_bridge.networks import layer
from tvm_bridge.templates.conv2d_nchw_llvm import enlarged_space
from tvm_bridge.templates.cpu import VectorUnit
from tvm_bridge.templates.spans import tile_loops
from tvm_bridge.templates.winograd_predicate import tile_extents

RB1 = layer("resnet-18", "rb1-conv1").workload


def test_every_algorithm_is_drawn():
    knobs = enlarged_space(RB1, checks.AVX512)
    drawn = knobs.sample(jax.random.key(0), 60)
    assert knobs.valid(drawn).all()
    assert len(np.unique(drawn, axis=0)) == 60
    assert knobs.shares == (1, 5, 16)  # the squares of what is saved
    counts = np.bincount(knobs.choice(drawn)["winograd"])[[0, 2, 4]]
    assert (np.abs(counts - 60 * np.array(knobs.shares) / 22) <= 1).all()


@st.composite
def tileable(draw):
    """A convolution that tiles suit, only to be counted, and a target of any width, number of cores and caches."""
    rows, columns = (draw(st.integers(2, 60)) for _ in range(2))
    channels, filters = (draw(st.sampled_from([16, 32, 48, 64, 512])) for _ in range(2))
    workload = Conv2d((draw(st.integers(1, 2)), channels, rows + 2, columns + 2), (filters, channels, 3, 3))
    return workload, draw(checks.targets())


@settings(max_examples=6, deadline=None)
@given(tileable())
def test_every_part_has_a_configuration_and_all_are_in_parts(case):
    workload, target = case
    knobs = enlarged_space(workload, target)
    extents = tile_extents(workload, VectorUnit.of(target))
    drawn = knobs.sample(jax.random.key(0), sum(knobs.shares))
    assert {0} < {0, *extents} == set(knobs.choice(drawn)["winograd"].tolist())
    random = np.random.default_rng(0)
    for part in knobs.parts:
        rows = np.stack([random.choice(options, 2000) for options in part], axis=1)
        rows[:1000] = random.integers(0, knobs.shape, (1000, len(knobs.shape)))
        within = [np.all([np.isin(*pair) for pair in zip(rows.T, each, strict=True)], axis=0) for each in knobs.parts]
        assert (np.sum(within, axis=0)[knobs.valid(rows)] == 1).all()


@pytest.mark.parametrize(
    ("workload", "extents"),
    [
        (RB1, (2, 4)),
        (layer("resnet-18", "rb3-conv2").workload, (2, 4)),  # 14x14
        (layer("resnet-18", "rb4-conv2").workload, (2, 4)),  # 7x7
        (Conv2d((1, 16, 4, 3), (16, 16, 3, 3)), (2,)),  # 2x1: a tile of 4x4 takes more products than it saves
        (Conv2d((1, 16, 3, 3), (16, 16, 3, 3)), ()),  # 1x1
        (layer("resnet-18", "rb2-conv1").workload, ()),  # stride 2
        (layer("resnet-18", "rb2-sc").workload, ()),  # 1x1 kernel
        (layer("vgg-16", "conv1-1").workload, ()),  # 3 channels
    ],
)
def test_where_it_applies(workload, extents):
    assert tile_extents(workload, VectorUnit.of(checks.AVX512)) == extents


@settings(max_examples=20, deadline=None)
@given(tileable())
def test_no_two_factorisations_mean_the_same_tiles(case):
    workload, target = case
    knobs, unit = enlarged_space(workload, target), VectorUnit.of(target)
    for m in tile_extents(workload, unit):
        part = next(each.part(knobs.knobs) for each in knobs.predicate.alternatives if ("winograd", m) in each.chosen)
        for axis in map(knobs.names.index, ("tile_y", "tile_x")):
            table = knobs.knobs[axis].table[list(part[axis])]
            tiles = -(-np.cumprod(table[:, :0:-1], axis=1) // m)  # of a register tile, a data tile and a chunk
            assert len(np.unique(tiles, axis=0)) == len(table) > 0


def test_what_lies_between_the_transforms_stays_in_the_last_cache():
    workload = layer("vgg-16", "conv1-2").workload
    bare = checks.parts(workload, checks.AVX512, "winograd")[-1]
    told, little = (
        checks.parts(workload, replace(checks.AVX512, caches=caches), "winograd")[-1]
        for caches in ((1 << 15, 1 << 20, 1 << 22), (1 << 15,))
    )
    drawn = bare.sample(jax.random.key(0), 500)
    assert little.valid(drawn).all()  # where the first level alone is told of, it is not the last
    kept = []
    for row in drawn:
        config = bare.to_config(row)
        down, right = (tile_loops(config[name], 4) for name in ("tile_y", "tile_x"))
        tiles = math.prod((*down[2:], *right[2:]))
        kept.append(36 * tiles * (64 + 64 // config["tile_f"][0]))
    assert (told.valid(drawn) == (4 * np.array(kept) <= 1 << 22)).all()
    assert 0 < told.valid(drawn).sum() < 500


def test_predicate_is_a_value_and_runs_under_jit():
    workload = Conv2d((1, 32, 10, 9), (32, 32, 3, 3))  # 8x7
    knobs, again = enlarged_space(workload, checks.AVX2), enlarged_space(workload, checks.AVX2)
    random = np.random.default_rng(0).integers(0, knobs.shape, (4096, len(knobs.shape)))
    drawn = np.concatenate([knobs.sample(jax.random.key(0), 30), random])
    space_checks.is_the_same_under_jit(knobs, drawn)
    assert knobs.predicate == again.predicate == pickle.loads(pickle.dumps(knobs.predicate))
