"""The laws of the classifier: it separates what is separable, its probabilities are honest, and one class is no accident."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surrogates.exact_gp import ExactGP
from surrogates.feasibility import Feasibility, leave_one_out
from surrogates.sparse_gp import SparseGP

KEY = jax.random.key(0)


def uniform(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, 3)).astype(np.float32)


def half_space(x: np.ndarray) -> np.ndarray:
    return (x[:, 0] + x[:, 1] > 0.2).astype(np.float32)


def noisy(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, whether each worked, and the probability that it would."""
    x = uniform(n, seed)
    probability = 1 / (1 + np.exp(-4 * x[:, 0]))
    return x, (np.random.default_rng(seed + 1000).uniform(size=n) < probability).astype(np.float32), probability


@pytest.fixture(scope="module")
def classifier() -> Feasibility:
    x = uniform(60)
    return Feasibility().fit(x, half_space(x), key=KEY)


def test_a_half_space_is_separated(classifier):
    new = uniform(500, seed=1)
    probability, std = classifier.predict(new)
    assert ((probability > 0.5) == (half_space(new) > 0.5)).mean() > 0.93
    assert probability.min() >= 0
    assert probability.max() <= 1
    margin, decided = np.abs(new[:, 0] + new[:, 1] - 0.2), np.abs(probability - 0.5)
    assert decided[margin > 0.5].mean() > decided[margin < 0.1].mean() + 0.05
    assert std[decided < 0.1].mean() > 2 * std[decided > 0.45].mean()


def test_probabilities_are_honest():
    found, true, worked = [], [], []
    for seed in range(4):
        x, y, _ = noisy(64, seed)
        new, outcome, probability = noisy(300, seed + 50)
        found.append(Feasibility().fit(x, y, key=KEY).predict(new).mean)
        true.append(probability)
        worked.append(outcome)
    found, true, worked = map(np.concatenate, (found, true, worked))
    assert np.abs(found - true).mean() < 0.12
    inside = [(found >= low) & (found < low + 0.25) for low in (0.0, 0.25, 0.5, 0.75)]
    calibration_error = sum(abs((worked[rows] - found[rows]).sum()) for rows in inside) / len(found)
    assert calibration_error < 0.1


def test_throughputs_are_labels(classifier):
    x = uniform(60)
    assert eqx.tree_equal(classifier, Feasibility().fit(x, 123.0 * half_space(x), key=KEY))


@pytest.mark.parametrize("n", [2, 10, 60])
@pytest.mark.parametrize("works", [True, False])
def test_one_class_gives_sensible_constants(n, works):
    y = np.full(n, float(works))
    probability, std = Feasibility().fit(uniform(n), y, key=KEY).predict(uniform(200, seed=1))
    right = probability if works else 1 - probability
    assert np.isfinite(std).all()
    assert (right > 0.8).all()
    assert (right < 1.0).all()
    assert np.ptp(probability) < 0.2
    if n > 2:
        assert (right > 0.95).all()


def test_both_classes_at_one_point_give_even_odds():
    x, y = np.zeros((20, 2)), np.tile([1.0, 0.0], 10)
    np.testing.assert_allclose(Feasibility().fit(x, y, key=KEY).predict(x).mean, 0.5, atol=0.05)


def test_leaving_one_out_is_fitting_without_it():
    x = uniform(30)
    y = half_space(x) + 0.1 * x[:, 2]
    model = ExactGP().fit(x, y, key=KEY)
    mean, std = leave_one_out(model)
    for i in (0, 7, 29):
        others = np.arange(30) != i
        prediction = model.condition(x[others], y[others]).predict(x[i : i + 1])
        np.testing.assert_allclose(mean[i], prediction.mean[0], atol=2e-3)
        np.testing.assert_allclose(std[i], prediction.std[0], atol=2e-2)


def test_deviation_is_that_of_the_probability(classifier):
    new = uniform(5, seed=1)
    belief, state = classifier.state.belief(jnp.asarray(new)), classifier.state
    samples = belief.mean + belief.std * jax.random.normal(KEY, (100_000, 5))
    probabilities = jax.scipy.stats.norm.cdf(state.slope * samples + state.offset)
    np.testing.assert_allclose(classifier.predict(new).mean, probabilities.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(classifier.predict(new).std, probabilities.std(axis=0), atol=0.01)


def test_many_points_take_the_sparse_process():
    x = uniform(64)
    model = Feasibility(exact_limit=50, sparse=SparseGP(inducing=20)).fit(x, half_space(x), key=KEY)
    new = uniform(300, seed=1)
    assert ((model.predict(new).mean > 0.5) == (half_space(new) > 0.5)).mean() > 0.85


def test_scorer_is_the_probability(classifier):
    new = uniform(50, seed=1)
    score = jax.jit(lambda scorer, x: scorer(x))(classifier.scorer(), new)
    np.testing.assert_allclose(score, classifier.predict(new).mean, atol=1e-5)


def test_a_second_fit_compiles_nothing(classifier):
    classifier.predict(uniform(50))
    with jax.no_tracing():
        Feasibility().fit(uniform(59), half_space(uniform(59)), key=KEY).predict(uniform(49))


def test_errors_name_the_argument(classifier):
    x = uniform(10)
    for use in (lambda: Feasibility().predict(x), Feasibility().scorer):
        with pytest.raises(ValueError, match="Feasibility knows nothing yet"):
            use()
    with pytest.raises(ValueError, match="x: 2 columns, but the model was fitted on 3"):
        classifier.predict(x[:, :2])
    with pytest.raises(ValueError, match=r"y: shape \(5,\) must be \(10,\)"):
        Feasibility().fit(x, np.ones(5), key=KEY)
    with pytest.raises(ValueError, match="y: row 0 is not finite"):
        Feasibility().fit(x, np.full(10, np.nan), key=KEY)
    with pytest.raises(ValueError, match="x: 1 points are too few"):
        Feasibility().fit(x[:1], np.ones(1), key=KEY)
