"""The laws of a layer: GPJax's moments and divergence, exact regression where q is optimal, samples as predicted, no NaN."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from gpjax.parameters import PositiveReal, Real, val
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.scipy.stats import multivariate_normal

from surrogates.deep_gp import NegativeELBO
from surrogates.deep_gp_layer import Composition, Layer
from surrogates.inverse_root import inverse_root
from surrogates.kernels import RBF
from surrogates.scaling import Standardizer
from tests.surrogates.reference_layer import ReferenceLayer

NOISE = 0.1


@eqx.filter_jit
def sampled_moments(model: Composition, x, noise):
    return model.sampled_moments(x, model.whiteners(), noise)


@eqx.filter_jit
def whitener(layer: Layer):
    return inverse_root(layer.covariance())


@eqx.filter_jit
def moments(layer: Layer, x):
    return layer.moments(x, whitener(layer))


@eqx.filter_jit
def both(layer: Layer, x):
    """Moments and divergence of a layer and of its reference."""
    reference = ReferenceLayer.of(layer)
    return (*layer.moments(x, whitener(layer)), layer.kl()), (*reference.moments(x), reference.kl())


@eqx.filter_jit
def bound(layer: Layer, x, y):
    return -NegativeELBO()(composition(layer), x, y, jnp.ones(len(y)), key=jr.key(0))[0]


@partial(jax.jit, static_argnames=("d", "p", "m", "full"))
def random_layer(seed, *, d: int = 3, p: int = 2, m: int = 8, full: bool = True) -> Layer:
    keys = jr.split(jr.key(seed), 7)
    return Layer(
        kernel=RBF(
            lengthscale=jr.uniform(keys[0], (d,), minval=0.5, maxval=3), variance=jr.uniform(keys[1], minval=0.3, maxval=4)
        ),
        inducing=Real(2 * jr.normal(keys[2], (m, d))),
        mean=Real(jr.normal(keys[3], (m, p))),
        deviation=PositiveReal(jr.uniform(keys[4], (m, p), minval=0.1, maxval=1.5)),
        lower=Real(0.3 * jr.normal(keys[5], (p, m, m))) if full else None,
        projection=jr.normal(keys[6], (d, p)),
        jitter=1e-5,
    )


def composition(layer: Layer) -> Composition:
    """A model of one layer whose scales do nothing."""
    d = layer.projection.shape[0]
    features, targets = Standardizer(jnp.zeros(d), jnp.ones(d)), Standardizer(jnp.zeros(()), jnp.ones(()))
    return Composition(features, targets, jnp.ones(()), (layer,), PositiveReal(jnp.float32(NOISE)), least_noise=0.0)


@eqx.filter_jit
def with_optimal_q(layer: Layer, x, y) -> Layer:
    """The layer with the q that maximises the bound on y: whitened, S = (I + A A^T / noise)^-1 and m = S A y / noise."""
    a = whitener(layer) @ layer.kernel.cross_covariance(val(layer.inducing), x)
    covariance = jnp.linalg.inv(jnp.eye(len(a)) + a @ a.T / NOISE)
    root = jnp.linalg.cholesky(covariance)
    return eqx.tree_at(
        lambda layer: (layer.mean, layer.deviation, layer.lower),
        layer,
        (Real((covariance @ a @ y / NOISE)[:, None]), PositiveReal(jnp.diag(root)[:, None]), Real(root[None])),
    )


@jax.jit
def regression(seed, n: int = 30):
    """Data, a layer with an inducing point at each, and the log marginal likelihood of exact regression."""
    layer = eqx.tree_at(lambda layer: layer.projection, random_layer(seed, p=1, m=n), jnp.zeros((3, 1)))
    x = val(layer.inducing)
    y = jnp.sin(x[:, 0]) + 0.1 * jr.normal(jr.key(seed), (n,))
    covariance = layer.kernel.gram(x).as_matrix() + NOISE * jnp.eye(n)
    return x, y, layer, covariance


@pytest.mark.parametrize("full", [True, False])
@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=8, deadline=None)
def test_layer_is_vmapped_gpjax(full, seed):
    layer = random_layer(seed, full=full)
    x = jr.normal(jr.key(seed), (9, 3))
    for ours, theirs in zip(*both(layer, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("full", [True, False])
def test_kl_is_that_of_normal_distributions(full):
    layer = random_layer(1, full=full)
    expected = 0.0
    for mean, root in zip(np.float64(val(layer.mean)).T, np.float64(layer.roots()), strict=True):
        covariance = root @ root.T
        expected += 0.5 * (np.trace(covariance) + mean @ mean - len(mean) - np.linalg.slogdet(covariance)[1])
    np.testing.assert_allclose(layer.kl(), expected, rtol=1e-5)


def test_kl_of_the_prior_is_zero():
    layer = Layer.initial(jnp.ones((5, 2)), jnp.zeros((2, 3)), lengthscale=1.0)
    np.testing.assert_allclose(layer.kl(), 0.0, atol=1e-5)


def test_optimal_q_at_the_data_is_exact_regression():
    x, y, layer, covariance = regression(0)
    model = composition(with_optimal_q(layer, x, y))
    points = jr.normal(jr.key(9), (20, 3))
    cross = np.asarray(layer.kernel.cross_covariance(points, x))
    mean = cross @ np.linalg.solve(covariance, y)
    variance = val(layer.kernel.variance) - (cross * np.linalg.solve(covariance, cross.T).T).sum(axis=1)
    ours_mean, ours_variance = eqx.filter_jit(lambda x: model.moments(x, model.whiteners()))(points)
    np.testing.assert_allclose(ours_mean, mean, atol=5e-3)
    np.testing.assert_allclose(ours_variance, variance, atol=5e-3)


@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_bound_is_below_the_evidence_and_reaches_it(seed):
    x, y, layer, covariance = regression(seed)
    evidence = multivariate_normal.logpdf(y, jnp.zeros(len(y)), covariance)
    assert bound(layer, x, y) <= evidence
    assert bound(with_optimal_q(layer, x, -y), x, y) <= evidence
    np.testing.assert_allclose(bound(with_optimal_q(layer, x, y), x, y), evidence, rtol=5e-3, atol=0.05)


def test_sampled_moments_of_a_composition_average_over_its_inner_layers():
    inner = random_layer(3), random_layer(4, d=2)
    model = eqx.tree_at(lambda model: model.layers, composition(inner[0]), (*inner, random_layer(5, d=2, p=1)))
    x, noise = jr.normal(jr.key(3), (4, 3)), jr.normal(jr.key(6), (7, 4, 4))
    assert model.width == 4
    mean, variance = sampled_moments(model, x, noise)
    for i in range(7):
        h = x
        for layer, drawn in zip(inner, (noise[i, :, :2], noise[i, :, 2:]), strict=True):
            layer_mean, layer_variance = moments(layer, h)
            h = layer_mean + jnp.sqrt(layer_variance) * drawn
        expected_mean, expected_variance = moments(model.layers[-1], h)
        np.testing.assert_allclose(mean[i], expected_mean[:, 0], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(variance[i], expected_variance[:, 0], rtol=1e-3, atol=1e-3)


def test_mean_only_is_the_mean():
    layer = random_layer(7)
    x = jr.normal(jr.key(8), (50, 3))
    np.testing.assert_allclose(layer.mean_only(whitener(layer))(x), moments(layer, x)[0], rtol=1e-3, atol=2e-3)


def test_variance_lies_between_zero_and_the_prior_when_nothing_was_learned():
    layer = Layer.initial(jr.normal(jr.key(0), (40, 3)), jnp.zeros((3, 1)), lengthscale=1.7)
    _, variance = moments(layer, jr.normal(jr.key(1), (100, 3)))
    np.testing.assert_allclose(variance, 1.0, rtol=1e-3)
    sure = eqx.tree_at(lambda layer: layer.deviation, layer, PositiveReal(jnp.full((40, 1), 1e-5)))
    _, variance = moments(sure, val(layer.inducing))
    assert (variance > 0).all()
    assert (variance < 0.01).all()


@pytest.mark.parametrize("x64", [False, True])
def test_float32_stays_float32(x64):
    with jax.enable_x64(x64):
        layer = random_layer(0)
        layer = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), layer)
        shapes = eqx.filter_eval_shape(lambda layer, x: (moments(layer, x), layer.kl()), layer, jnp.zeros((2, 3), jnp.float32))
        assert {shape.dtype for shape in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}


def test_gradients_are_finite_with_many_close_inducing_points():
    layer = Layer.initial(1e-3 * jr.normal(jr.key(0), (128, 20)), jnp.zeros((20, 1)), lengthscale=4.5)
    x = jr.normal(jr.key(1), (256, 20))
    gradient = jax.jit(jax.grad(lambda layer: sum(moment.sum() for moment in moments(layer, x)) + layer.kl()))(layer)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
