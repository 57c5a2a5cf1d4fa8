"""The laws of exact regression: the posterior is the textbook's, padding and order change nothing, doubt is honest."""

import equinox as eqx
import gpjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gpjax.parameters import val
from hypothesis import given, settings
from hypothesis import strategies as st

import surrogates.gaussian_process as module
from surrogates.exact_gp import ExactGP, log_density, log_marginal_likelihood
from surrogates.gaussian_process import hyperparameters_of, padded

KEY = jax.random.key(0)
LIKELIHOOD = eqx.filter_jit(log_marginal_likelihood)


def points(n: int, d: int = 3, *, seed: int = 0, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype(np.float32)
    y = np.sin(2 * x[:, 0]) + 0.5 * x[:, 1] + noise * rng.normal(size=n)
    return x, y.astype(np.float32)


def covariance(name: str, lengthscale: np.ndarray, variance: float, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The textbook's kernel in float64, pair by pair."""
    r = np.linalg.norm((x[:, None, :] - z[None, :, :]) / lengthscale, axis=2)
    if name == "rbf":
        return variance * np.exp(-(r**2) / 2)
    return variance * (1 + np.sqrt(5) * r + 5 / 3 * r**2) * np.exp(-np.sqrt(5) * r)


def textbook(model: ExactGP, x: np.ndarray, y: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, standard deviation and log marginal likelihood in float64 of a fitted model's hyperparameters."""
    state = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), model.state)
    learned = model.state.hyperparameters
    lengthscale, variance = np.asarray(val(learned.kernel.lengthscale), np.float64), float(val(learned.kernel.variance))
    x, new, y = state.inputs(x.astype(np.float64)), state.inputs(new.astype(np.float64)), state.targets(y.astype(np.float64))
    noise = (float(val(learned.noise)) + model.jitter * variance) * np.eye(len(x))
    k, cross = (covariance(model.kernel, lengthscale, variance, a, x) for a in (x, new))
    k = k + noise
    spread = variance - np.einsum("ij,ji->i", cross, np.linalg.solve(k, cross.T))
    weights = np.linalg.solve(k, y)
    likelihood = -0.5 * (y @ weights + np.linalg.slogdet(k)[1] + len(y) * np.log(2 * np.pi))
    return state.targets.undo(cross @ weights), state.targets.scale * np.sqrt(spread), likelihood


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_posterior_is_the_textbook_s(kernel):
    x, y = points(50, noise=0.1)
    new, _ = points(30, seed=1)
    model = ExactGP(kernel).fit(x, y, key=KEY)
    mean, std, _ = textbook(model, x, y, new)
    prediction = model.predict(new)
    np.testing.assert_allclose(prediction.mean, mean, atol=2e-3 * y.std())
    np.testing.assert_allclose(prediction.std, std, atol=5e-3 * y.std())
    np.testing.assert_allclose(model.scorer()(new), prediction.mean, atol=1e-4)


@pytest.mark.filterwarnings("ignore:[Xy] is not of type float64:UserWarning")
def test_posterior_is_gpjax_s():
    x, y = points(40, noise=0.1)
    new, _ = points(20, seed=1)
    model = ExactGP().fit(x, y, key=KEY)
    state, learned = model.state, model.state.hyperparameters
    parameters = {"lengthscale": val(learned.kernel.lengthscale), "variance": val(learned.kernel.variance)}
    prior = gpjax.gps.Prior(mean_function=gpjax.mean_functions.Zero(), kernel=gpjax.kernels.Matern52(**parameters))
    noise = jnp.sqrt(val(learned.noise) + model.jitter * parameters["variance"])
    data = gpjax.Dataset(state.inputs(jnp.asarray(x)), state.targets(jnp.asarray(y))[:, None])
    posterior = (prior * gpjax.likelihoods.Gaussian(obs_stddev=noise)).condition(data)
    theirs = posterior.predict(state.inputs(jnp.asarray(new)))
    np.testing.assert_allclose(model.predict(new).mean, state.targets.undo(theirs.mean), atol=5e-3)
    np.testing.assert_allclose(
        model.predict(new).std, state.targets.scale * jnp.sqrt(jnp.diag(theirs.covariance_matrix)), atol=5e-3
    )


@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
@pytest.mark.parametrize(("n", "log_noise"), [(2, -1.0), (37, -4.0), (64, 0.0)])
def test_log_marginal_likelihood_is_the_closed_form_whatever_the_padding(n, kernel, log_noise):
    x, y = points(n, noise=0.3)
    learned = hyperparameters_of(
        {"lengthscale": jnp.zeros(3), "variance": jnp.zeros(()), "noise": jnp.float32(log_noise)}, kernel, 0.0
    )
    k = covariance(kernel, np.ones(3), 1.0, x.astype(np.float64), x) + (np.exp(log_noise) + 1e-5) * np.eye(n)
    expected = -0.5 * (y @ np.linalg.solve(k, y) + np.linalg.slogdet(k)[1] + n * np.log(2 * np.pi))
    np.testing.assert_allclose(LIKELIHOOD(learned, *padded(x, y)), expected, rtol=1e-4, atol=1e-2)


def test_gradient_of_the_density_is_that_of_the_closed_form():
    root, y = jax.random.normal(KEY, (6, 6)), jax.random.normal(jax.random.key(1), (6,))
    k = root @ root.T + jnp.eye(6)

    def plain(k, y):
        return -0.5 * y @ jnp.linalg.solve(k, y) - 0.5 * jnp.linalg.slogdet(k)[1]

    both = [jax.jit(jax.value_and_grad(density, (0, 1)))(k, y) for density in (log_density, plain)]
    for ours, theirs in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_padding_changes_no_prediction(monkeypatch):
    x, y = points(50, noise=0.1)
    new, _ = points(20, seed=1)
    narrow = ExactGP().fit(x, y, key=KEY)
    monkeypatch.setattr(module, "padded_size", lambda n: 100)
    wide = narrow.condition(x, y)
    assert (len(narrow.state.points), len(wide.state.points)) == (256, 100)
    for a, b in zip(narrow.predict(new), wide.predict(new), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_more_data_leave_less_doubt():
    x, y = points(64, noise=0.1)
    new, _ = points(50, seed=1)
    model = ExactGP().fit(x, y, key=KEY)
    doubts = [model.condition(x[:n], y[:n]).predict(new).std for n in (5, 20, 64)]
    assert (doubts[1] <= doubts[0] + 1e-3).all()
    assert (doubts[2] <= doubts[1] + 1e-3).all()
    assert doubts[2].mean() < 0.7 * doubts[0].mean()


def test_little_noise_interpolates():
    x, y = points(60)
    model = ExactGP().fit(x, y, key=KEY)
    prediction = model.predict(x)
    np.testing.assert_allclose(prediction.mean, y, atol=0.05)
    assert prediction.std.max() < 0.1
    assert model.predict(100.0 + x).std.min() > 0.4


def test_order_of_rows_and_columns_changes_nothing():
    x, y = points(60, noise=0.2)
    new, _ = points(20, seed=1)
    rows, columns = np.random.default_rng(0).permutation(60), [2, 0, 1]
    plain = ExactGP().fit(x, y, key=KEY).predict(new)
    shuffled = ExactGP().fit(x[rows][:, columns], y[rows], key=KEY).predict(new[:, columns])
    for a, b in zip(plain, shuffled, strict=True):
        np.testing.assert_allclose(a, b, atol=0.03)


@settings(deadline=None, max_examples=3)
@given(st.floats(-100, 100), st.floats(0.01, 1000))
def test_predictions_follow_the_units_of_the_targets(shift, scale):
    x, y = points(40, noise=0.2)
    new, _ = points(20, seed=1)
    plain, moved = (ExactGP().fit(x, targets, key=KEY).predict(new) for targets in (y, shift + scale * y))
    # float32 keeps seven digits of the shifted targets
    tolerance = 0.03 + 1e-6 * abs(shift) / scale * 1e3
    np.testing.assert_allclose((moved.mean - shift) / scale, plain.mean, atol=tolerance)
    np.testing.assert_allclose(moved.std / scale, plain.std, atol=tolerance)


def test_irrelevant_features_get_long_lengthscales():
    x, y = points(64, 5, noise=0.05)
    lengthscale = val(ExactGP().fit(x, y, key=KEY).state.hyperparameters.kernel.lengthscale)
    assert lengthscale[2:].min() > 2 * lengthscale[0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x, y: (np.column_stack([x, np.full(len(x), 7.0)]), y),
        lambda x, y: (np.zeros_like(x), y),
        lambda x, y: (x, np.full_like(y, 3.0)),
        lambda x, y: (x, np.zeros_like(y)),
        lambda x, y: (np.repeat(x[:5], 8, axis=0), y),
        lambda x, y: (np.repeat(x[:1], 40, axis=0), np.zeros_like(y)),
        lambda x, y: (x[:2], y[:2]),
        lambda x, y: (1e6 * x, 1e-6 * y),
    ],
    ids=["constant feature", "constant features", "constant targets", "all failed", "duplicates", "one point", "two", "units"],
)
def test_degenerate_data_give_numbers(spoil):
    x, y = spoil(*points(40))
    prediction = ExactGP().fit(x, y, key=KEY).predict(x)
    assert all(np.isfinite(values).all() for values in prediction)
    assert (prediction.std > 0).all()
    if np.ptp(y) == 0:
        np.testing.assert_allclose(prediction.mean, y, atol=1e-4)


def test_intervals_cover_samples_of_gaussian_processes():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(8):
        x = rng.normal(size=(160, 3)).astype(np.float32)
        k = covariance("matern52", np.array([1.0, 2.0, 3.0]), 1.0, x, x) + 1e-9 * np.eye(160)
        f = (np.linalg.cholesky(k) @ rng.normal(size=160)).astype(np.float32)
        y = f[:60] + 0.1 * rng.normal(size=60).astype(np.float32)
        mean, std = ExactGP().fit(x[:60], y, key=KEY).predict(x[60:])
        covered.append(np.abs(mean - f[60:]) < 1.645 * std)
    assert 0.82 < np.mean(covered) < 0.97


def test_conditioning_keeps_hyperparameters_and_scales():
    x, y = points(60, noise=0.1)
    model = ExactGP().fit(x[:40], y[:40], key=KEY)
    more = model.condition(x, y)
    for part in ("hyperparameters", "inputs", "targets"):
        assert eqx.tree_equal(getattr(model.state, part), getattr(more.state, part))
    same = model.condition(x[:40], y[:40]).predict(x)
    np.testing.assert_allclose(same.mean, model.predict(x).mean, atol=1e-4)
    mean, std, _ = textbook(more, x, y, x[:5])
    np.testing.assert_allclose(more.predict(x[:5]).mean, mean, atol=2e-3)
    np.testing.assert_allclose(more.predict(x[:5]).std, std, atol=5e-3)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_point_that_is_left_out_is_predicted_without_it(noise):
    x, y = points(30, noise=noise)
    model = ExactGP().fit(x, 10 + 3 * y, key=KEY)
    without = [
        model.condition(np.delete(x, i, axis=0), np.delete(10 + 3 * y, i)).predict(x[i : i + 1]).mean[0] for i in range(30)
    ]
    np.testing.assert_allclose(model.left_out(), without, atol=2e-2)


def test_same_data_give_the_same_model():
    assert eqx.tree_equal(*(ExactGP().fit(*points(30), key=KEY) for _ in range(2)))


def test_growing_data_compile_nothing_new():
    new, _ = points(100, seed=1)
    score = jax.jit(lambda scorer, x: scorer(x))
    for n in (40, 41):
        score(ExactGP().fit(*points(n), key=KEY).scorer(), new)
        ExactGP().fit(*points(n), key=KEY).condition(*points(n)).predict(new)
    with jax.no_tracing():
        model = ExactGP().fit(*points(57), key=KEY)
        score(model.condition(*points(63)).scorer(), new)
        model.predict(new[:70])


def test_many_rows_are_predicted_in_blocks_and_inside_jit():
    model = ExactGP().fit(*points(30), key=KEY)
    new, _ = points(5000)
    whole = model.predict(new)
    assert whole.mean.shape == whole.std.shape == (5000,)
    inside = jax.jit(lambda model, x: model.predict(x))(model, new)
    for a, b, c in zip(whole, inside, model.predict(new[4090:4100]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
        np.testing.assert_allclose(a[4090:4100], c, atol=1e-4)
    assert model.predict(new[:0]).mean.shape == (0,)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda x, y: (x[:, 0], y), r"x: shape \(10,\) must be \(n, d\)"),
        (lambda x, y: (x, y[:5]), r"y: shape \(5,\) must be \(10,\)"),
        (lambda x, y: (x * np.nan, y), "x: row 0, column 0 is not finite"),
        (lambda x, y: (x, np.where(y == y[3], np.inf, y)), "y: row 3 is not finite"),
        (lambda x, y: (x[:1], y[:1]), "x: 1 points are too few"),
    ],
)
def test_fit_names_what_is_wrong(spoil, sentence):
    with pytest.raises(ValueError, match=sentence):
        ExactGP().fit(*spoil(*points(10)), key=KEY)


def test_predicting_names_what_is_wrong():
    x, y = points(10)
    for use in (lambda: ExactGP().predict(x), ExactGP().scorer, ExactGP().left_out, lambda: ExactGP().condition(x, y)):
        with pytest.raises(ValueError, match="ExactGP knows nothing yet"):
            use()
    model = ExactGP().fit(x, y, key=KEY)
    for use in (lambda: model.predict(x[:, :2]), lambda: model.condition(x[:, :2], y)):
        with pytest.raises(ValueError, match="x: 2 columns, but the model was fitted on 3"):
            use()
    with pytest.raises(ValueError, match="x: row 0, column 0 is not finite"):
        model.predict(x * np.nan)


def test_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel: 'linear' is not one of 'matern52', 'rbf'"):
        ExactGP("linear")
