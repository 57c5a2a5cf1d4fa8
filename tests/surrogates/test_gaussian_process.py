"""The laws of what Gaussian processes share: few padded sizes, noise above its floor, kernels that are known."""

import jax.numpy as jnp
import numpy as np
import pytest
from gpjax.parameters import val
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogates.gaussian_process import (
    KERNELS,
    checked_kernel,
    hyperparameters_of,
    initial_logs,
    log_prior,
    padded,
    padded_size,
)


@given(st.integers(1, 10_000))
def test_padded_sizes_are_few_and_never_too_small(n):
    assert n <= padded_size(n) <= max(256, 2 * n)
    assert padded_size(padded_size(n)) == padded_size(n)
    assert len({padded_size(i) for i in range(1, 513)}) == 3


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 300))
def test_padding_is_zeros_after_the_points(n):
    x, y = np.ones((n, 2), np.float32), np.full(n, 3.0, np.float32)
    points, targets, real = map(np.asarray, padded(x, y))
    assert len(points) == len(targets) == len(real) == padded_size(n)
    assert int(real.sum()) == n
    assert bool(real[:n].all())
    np.testing.assert_array_equal(points[:n], x)
    np.testing.assert_array_equal(targets[:n], y)
    assert not points[n:].any()
    assert not targets[n:].any()


@pytest.mark.parametrize("kernel", KERNELS)
def test_hyperparameters_are_what_their_logarithms_say(kernel):
    logs = initial_logs(3) | {"variance": jnp.float32(np.log(2.0)), "noise": jnp.float32(-100.0)}
    found = hyperparameters_of(logs, kernel, noise_floor=1e-3)
    assert isinstance(found.kernel, KERNELS[kernel])
    np.testing.assert_allclose(val(found.kernel.lengthscale), np.sqrt(3.0), rtol=1e-5)
    np.testing.assert_allclose(val(found.kernel.variance), 2.0, rtol=1e-5)
    np.testing.assert_allclose(val(found.noise), 1e-3, rtol=1e-5)


@pytest.mark.parametrize(("name", "mode"), [("lengthscale", np.log(0.75 * 2.0)), ("variance", 0.0), ("noise", -3.0)])
def test_the_prior_is_highest_at_its_medians(name, mode):
    def density(value):
        return float(
            log_prior(initial_logs(4) | {name: jnp.full(4, value) if name == "lengthscale" else jnp.float32(value)}, 4)
        )

    assert density(mode) > max(density(mode - 0.5), density(mode + 0.5))


def test_unknown_kernel_names_the_known():
    with pytest.raises(ValueError, match="kernel: 'cosine' is not one of 'matern52', 'rbf'"):
        checked_kernel("cosine")
