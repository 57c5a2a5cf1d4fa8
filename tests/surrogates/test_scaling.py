"""The laws of scales: standardised values have mean 0 and deviation 1, undoing restores, constants stay finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogates.scaling import Standardizer

OFFSETS, SCALES = st.floats(-100, 100), st.floats(0.1, 1000)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), OFFSETS, SCALES)
def test_values_come_to_zero_mean_and_unit_deviation(seed, offset, scale):
    values = (offset + scale * np.random.default_rng(seed).normal(size=(50, 3))).astype(np.float32)
    scaled = Standardizer.of(values)(values)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), OFFSETS, SCALES)
def test_undo_restores(seed, offset, scale):
    values = (offset + scale * np.random.default_rng(seed).normal(size=20)).astype(np.float32)
    standardizer = Standardizer.of(values)
    np.testing.assert_allclose(standardizer.undo(standardizer(values)), values, rtol=1e-5, atol=1e-4 * scale)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e6, 1e-30])
@pytest.mark.parametrize("n", [1, 2, 1000, 100_000])
def test_what_does_not_vary_keeps_its_scale(value, n):
    standardizer = Standardizer.of(np.full((n, 2), value, np.float32))
    np.testing.assert_array_equal(standardizer.scale, 1.0)
    np.testing.assert_allclose(standardizer(np.full((1, 2), value, np.float32)), 0.0, atol=1e-6 * (1 + abs(value)))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 20))
def test_padding_does_not_count(seed, n):
    values = np.random.default_rng(seed).normal(size=(20, 2)).astype(np.float32)  # one shape, which compiles once
    padded = Standardizer.of(values, jnp.arange(20) < n)
    np.testing.assert_allclose(padded.mean, values[:n].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(padded.scale, values[:n].std(axis=0), atol=1e-5)


def test_one_value_beside_padding_keeps_its_scale():
    np.testing.assert_array_equal(Standardizer.of(np.float32([[2.0], [5.0]]), jnp.array([True, False])).scale, 1.0)


def test_columns_are_scaled_apart_and_vectors_as_a_whole():
    values = np.array([[0.0, 5.0], [2.0, 5.0]], np.float32)
    columns, vector = Standardizer.of(values), Standardizer.of(values[:, 0])
    np.testing.assert_allclose(columns.mean, [1.0, 5.0])
    np.testing.assert_allclose(columns.scale, [1.0, 1.0])
    assert vector.mean.shape == vector.scale.shape == ()


def test_standardizing_is_a_jax_program():
    values = jnp.arange(6.0).reshape(3, 2)
    scaled = jax.jit(lambda values: Standardizer.of(values)(values))(values)
    np.testing.assert_allclose(scaled, Standardizer.of(values)(values), atol=1e-6)


def test_on_the_host_it_is_the_same():
    values = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    standardizer = Standardizer.of(values)
    with jax.no_tracing():
        scaled = standardizer.on_host(values[:2])
    np.testing.assert_allclose(scaled, standardizer(values)[:2], atol=1e-6)
