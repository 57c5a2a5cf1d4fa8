"""The laws of sparse regression: a bound below the likelihood, exact with all points induced, conditioned on all data."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gpjax.parameters import val

import surrogates.sparse_gp as module
from surrogates.exact_gp import ExactGP, log_marginal_likelihood
from surrogates.gaussian_process import padded
from surrogates.sparse_gp import SparseGP, evidence_lower_bound

KEY = jax.random.key(0)
SMALL = SparseGP(inducing=20)


def points(n: int, *, seed: int = 0, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = np.sin(2 * x[:, 0]) + 0.5 * x[:, 1] + noise * rng.normal(size=n)
    return x, y.astype(np.float32)


@pytest.fixture(scope="module")
def exact() -> ExactGP:
    return ExactGP().fit(*points(60), key=KEY)


@pytest.fixture(scope="module")
def sparse() -> SparseGP:
    return SMALL.fit(*points(60), key=KEY)


def test_all_points_induced_make_it_exact():
    x, y = points(60)
    new, _ = points(30, seed=1)
    sparse = SparseGP(inducing=60).fit(x, y, key=KEY)
    prior = sparse.state.prior
    exact = ExactGP().fit(x, y, key=KEY)
    same = eqx.tree_at(lambda model: model.state.hyperparameters, exact, prior.hyperparameters).condition(x, y)
    for a, b in zip(sparse.predict(new), same.predict(new), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-3)
    for a, b in zip(sparse.predict(new), exact.predict(new), strict=True):
        np.testing.assert_allclose(a, b, atol=0.05)


def test_bound_lies_below_the_likelihood_and_rises_to_it(exact):
    learned, state = exact.state.hyperparameters, exact.state
    x, y, real = padded(*points(60))
    x, y = state.inputs(x), state.targets(y)
    likelihood = log_marginal_likelihood(learned, x, y, real)
    bound = eqx.filter_jit(evidence_lower_bound)  # one program each, not one for every operation
    bounds = [bound(learned, x[:m], x, y, real) for m in (5, 20, 60)]
    assert bounds[0] < bounds[1] < bounds[2] < likelihood + 0.05
    np.testing.assert_allclose(bounds[2], likelihood, atol=0.2)


def test_bound_is_the_closed_form_whatever_the_padding(exact):
    learned, state = exact.state.hyperparameters, exact.state
    x, y, real = padded(*points(40))
    x, y = state.inputs(x), state.targets(y)
    kernel, noise = learned.kernel, float(val(learned.noise))
    z = x[:10]
    kzz, kzx, kxx = (np.asarray(kernel.cross_covariance(a, b), np.float64) for a, b in ((z, z), (z, x[:40]), (x[:40], x[:40])))
    q = kzx.T @ np.linalg.solve(kzz + 1e-5 * float(val(kernel.variance)) * np.eye(10), kzx)
    total, targets = q + noise * np.eye(40), np.asarray(y[:40], np.float64)
    density = -0.5 * (targets @ np.linalg.solve(total, targets) + np.linalg.slogdet(total)[1] + 40 * np.log(2 * np.pi))
    expected = density - np.trace(kxx - q) / (2 * noise)
    np.testing.assert_allclose(evidence_lower_bound(learned, z, x, y, real), expected, rtol=1e-3, atol=0.05)


def test_posterior_does_not_depend_on_the_blocks(sparse):
    x, y = points(300)
    prior = sparse.state.prior
    whole, parts = (module._condition(prior, x, y, sparse.jitter, block) for block in (300, 60))
    for a, b in zip(whole(jnp.asarray(x)), parts(jnp.asarray(x)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_hyperparameters_come_from_a_sample_and_the_posterior_from_all_points():
    x, y = points(2000)
    model = SparseGP(inducing=20, sample=60).fit(x, y, key=KEY)
    part = model.condition(x[:60], y[:60])
    new, truth = points(200, seed=1, noise=0.0)
    assert model.predict(new).std.mean() < 0.8 * part.predict(new).std.mean()
    assert np.std(model.predict(new).mean - truth) < np.std(part.predict(new).mean - truth)


def test_little_noise_and_many_points_stay_finite():
    x, y = points(20_000, noise=0.0)
    model = SparseGP(inducing=20, sample=60).fit(x, y, key=KEY)
    tiny = eqx.tree_at(lambda m: m.state.prior.hyperparameters.noise._unconstrained, model, jnp.float32(-12.0)).condition(x, y)
    assert all(np.isfinite(values).all() for values in tiny.predict(x[:100]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x, y: (np.column_stack([x[:, :2], np.full(len(x), 7.0)]), y),
        lambda x, y: (x, np.zeros_like(y)),
        lambda x, y: (np.repeat(x[:20], 3, axis=0), y),
    ],
    ids=["constant feature", "constant targets", "duplicates"],
)
def test_degenerate_data_give_numbers(spoil):
    x, y = spoil(*points(60))
    prediction = SMALL.fit(x, y, key=KEY).predict(x)
    assert all(np.isfinite(values).all() for values in prediction)
    assert (prediction.std > 0).all()


def test_scorer_is_the_mean(sparse):
    new, _ = points(50, seed=1)
    np.testing.assert_allclose(sparse.scorer()(new), sparse.predict(new).mean, atol=1e-5)


def test_same_key_gives_the_same_model(sparse):
    assert eqx.tree_equal(sparse, SMALL.fit(*points(60), key=KEY))


def test_a_second_fit_compiles_nothing(sparse):
    new, _ = points(50, seed=1)
    sparse.predict(new)
    with jax.no_tracing():
        SMALL.fit(*points(61), key=KEY).predict(new)


def test_errors_name_the_argument(sparse):
    x, y = points(10)
    with pytest.raises(ValueError, match="SparseGP knows nothing yet"):
        SMALL.predict(x)
    with pytest.raises(ValueError, match="x: 2 columns, but the model was fitted on 3"):
        sparse.predict(x[:, :2])
    with pytest.raises(ValueError, match="x: 2 columns, but the model was fitted on 3"):
        sparse.condition(x[:, :2], y)
    with pytest.raises(ValueError, match="y: row 0 is not finite"):
        SMALL.fit(x, y * np.nan, key=KEY)
    with pytest.raises(ValueError, match="x: 1 points are too few"):
        SMALL.fit(x[:1], y[:1], key=KEY)
    with pytest.raises(ValueError, match="inducing: 0 must be above 0"):
        SparseGP(inducing=0)
    with pytest.raises(ValueError, match="kernel: 'linear'"):
        SparseGP(kernel="linear")
