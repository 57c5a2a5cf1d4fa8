"""Tuning sets are what their selection says, and leave something to be judged."""

import numpy as np
import pytest

from experiments.recorded import Layer
from experiments.surrogate_accuracy import SELECTIONS, chosen
from surrogates import Prediction

RNG = np.random.default_rng(0)
LAYER = Layer(
    "device",
    "network",
    "layer",
    x=RNG.normal(size=(900, 3)).astype(np.float32),
    y=RNG.gamma(2.0, size=900).astype(np.float32),
    unbiased=np.arange(900) < 300,
    admitted=np.ones(900, bool),
)


class First:
    """Ranks by the first feature."""

    def predict(self, x):
        return Prediction(x[:, 0], np.ones(len(x)))


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("points", [10, 150, 300])
def test_rows_are_distinct_and_some_of_every_kind_are_left(selection, points):
    rows, held = chosen(LAYER, selection, points, zero_shot=First(), seed=0)
    assert len(rows) == len(set(rows)) == points
    assert not set(rows) & set(held)
    assert len(rows) + len(held) == 900
    assert LAYER.unbiased[held].sum() >= 100
    assert (~LAYER.unbiased[held]).sum() >= 300


def test_top_is_the_top_and_random_is_unbiased():
    top, held = chosen(LAYER, "top", 50, zero_shot=First(), seed=0)
    assert LAYER.x[top, 0].min() > np.median(LAYER.x[held, 0])
    assert LAYER.unbiased[chosen(LAYER, "random", 150, zero_shot=First(), seed=0)[0]].all()


def test_seeds_differ_and_repeat():
    one, other, again = (chosen(LAYER, "random", 50, zero_shot=First(), seed=seed)[0] for seed in (0, 1, 0))
    np.testing.assert_array_equal(one, again)
    assert set(one) != set(other)
