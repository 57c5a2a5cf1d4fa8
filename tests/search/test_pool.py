"""The laws of a recorded pool: membership is set membership, in NumPy and inside jit, however large the product."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.pool import Pool

SHAPES = {
    "one word": (7, 5, 3),
    "leading single options": (1, 1, 6, 5),
    "exactly one word": ((1 << 31) - 1,),
    "passes 2^31": (84, 84, 84, 84, 84, 3, 2),
    "passes 2^63": (1000,) * 9,
    "single options between words": (46341, 1, 46341, 1, 46341),
}


@eqx.filter_jit
def contains(pool: Pool, knobs):
    """Membership as a jitted search tests it: the pool is an argument."""
    return pool.contains(knobs)


def distinct_rows(shape: tuple[int, ...], n: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).integers(0, shape, size=(n, len(shape)), dtype=np.int32)
    return np.unique(rows, axis=0)


def near(rows: np.ndarray, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Rows with one knob changed: the likeliest to be taken for members."""
    generator = np.random.default_rng(seed)
    moved, column = rows.copy(), generator.integers(0, len(shape), len(rows))
    here = np.arange(len(rows))
    moved[here, column] = (moved[here, column] + 1) % np.array(shape)[column]
    return moved


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("size", [0, 1, 100])
def test_membership_is_set_membership(shape, size):
    listed = distinct_rows(shape, size, seed=0)
    asked = np.concatenate([listed, near(listed, shape, seed=1), distinct_rows(shape, 50, seed=2)])
    members = set(map(tuple, listed.tolist()))
    expected = [tuple(row) in members for row in asked.tolist()]
    pool = Pool(listed, shape)
    assert pool.contains(asked).tolist() == expected
    assert contains(pool, jnp.asarray(asked)).tolist() == expected


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([1, 2, 3, 255, 256, 46341, 1 << 16, (1 << 31) - 1]), min_size=1, max_size=8).map(tuple),
    st.integers(0, 40),
    st.integers(0, 1000),
)
def test_membership_is_set_membership_for_any_shape(shape, size, seed):
    listed = distinct_rows(shape, size, seed)
    asked = np.concatenate([listed, near(listed, shape, seed)])
    members = set(map(tuple, listed.tolist()))
    assert Pool(listed, shape).contains(asked).tolist() == [tuple(row) in members for row in asked.tolist()]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_pool_keeps_its_rows_in_the_order_of_their_index(shape):
    listed = distinct_rows(shape, 30, seed=0)
    pool = Pool(listed[::-1], shape)
    assert len(pool) == len(listed)
    assert pool.rows.tolist() == sorted(listed.tolist(), key=lambda row: row[::-1])


def test_membership_keeps_leading_axes():
    shape = SHAPES["one word"]
    pool = Pool(distinct_rows(shape, 20, seed=0), shape)
    asked = distinct_rows(shape, 1000, seed=1)[:24]
    flat = pool.contains(asked)
    assert (pool.contains(asked.reshape(4, 6, 3)) == flat.reshape(4, 6)).all()
    assert bool(pool.contains(asked[0])) == flat[0]
