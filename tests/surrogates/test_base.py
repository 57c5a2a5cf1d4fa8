"""The laws of the checks: what is sound comes back as float32, and what is not is named."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogates.base import checked, checked_points, fitted, traced
from surrogates.deep_gp import DeepGP
from surrogates.exact_gp import ExactGP
from surrogates.mlp import MLP
from surrogates.sparse_gp import SparseGP
from surrogates.stacked import Stacked
from surrogates.xgboost import XGBoost

X, Y = np.ones((3, 2)), np.ones(3)


def with_value(array: np.ndarray, position: tuple[int, ...], value: float) -> np.ndarray:
    changed = array.copy()
    changed[position] = value
    return changed


@given(st.integers(2, 20), st.integers(1, 5))
def test_sound_points_come_back_as_float32(n, d):
    x, y = checked([[float(i)] * d for i in range(n)], list(range(n)))
    assert x.dtype == y.dtype == np.float32
    assert (x.shape, y.shape) == ((n, d), (n,))
    assert (x[:, 0] == y).all()


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (np.ones(3), Y, r"x: shape \(3,\) must be \(n, d\)"),
        (np.ones((3, 0)), Y, r"x: shape \(3, 0\)"),
        (np.ones((3, 2, 1)), Y, r"x: shape \(3, 2, 1\)"),
        (with_value(X, (1, 0), np.nan), Y, r"x: row 1, column 0 is not finite"),
        (with_value(X, (2, 1), np.inf), Y, r"x: row 2, column 1 is not finite"),
        (X, np.ones(2), r"y: shape \(2,\) must be \(3,\)"),
        (X, np.ones((3, 1)), r"y: shape \(3, 1\) must be \(3,\)"),
        (X, with_value(Y, (2,), np.nan), r"y: row 2 is not finite; give failed points a number"),
        (X[:1], Y[:1], r"x: 1 points are too few to learn from; at least 2"),
        (X[:0], Y[:0], r"x: 0 points are too few"),
    ],
)
def test_errors_name_the_argument(x, y, sentence):
    with pytest.raises(ValueError, match=sentence):
        checked(x, y)


def test_least_is_how_many_points_are_needed():
    assert len(checked(X[:1], Y[:1], least=1)[0]) == 1
    with pytest.raises(ValueError, match="3 points are too few to learn from; at least 4"):
        checked(X, Y, least=4)


def test_columns_must_be_those_of_the_fit():
    assert checked_points(X, 2).shape == (3, 2)
    with pytest.raises(ValueError, match="x: 2 columns, but the model was fitted on 5"):
        checked_points(X, 5)


SETTINGS = {
    DeepGP: ("inducing", "epochs", "batch", "learning_rate", "patience", "samples", "adapt_epochs", "adapt_learning_rate"),
    ExactGP: ("evaluations",),
    MLP: ("epochs", "batch", "learning_rate"),
    SparseGP: ("inducing", "evaluations", "sample"),
    XGBoost: ("eta", "rounds", "patience", "top", "halving", "threads"),
    partial(Stacked, (ExactGP(),)): ("weight",),
}


@pytest.mark.parametrize(
    ("surrogate", "name"), [(surrogate, name) for surrogate, names in SETTINGS.items() for name in names], ids=str
)
def test_settings_that_cannot_work_are_refused_when_a_recipe_is_made(surrogate, name):
    if surrogate is XGBoost:
        pytest.importorskip("xgboost", reason="needs the extra xgboost")
    surrogate(**{name: 1})
    for value in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"{name}: {value} must be above 0"):
            surrogate(**{name: value})


def test_a_recipe_does_not_predict():
    with pytest.raises(ValueError, match="ExactGP knows nothing yet; call `fit`"):
        fitted(ExactGP(), None)
    fitted(ExactGP(), 0)


def test_traced_tells_tracers_from_values():
    seen = []
    jax.jit(lambda x: seen.append(traced(x)) or x)(np.ones(2))
    assert seen == [True]
    assert not traced(np.ones(2))
    assert not traced(jax.numpy.ones(2))
