"""The laws of the figures that judge predictions: perfect ones, useless ones, units."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from experiments.accuracy import COLUMNS, judged

Y = np.random.default_rng(0).gamma(2.0, size=400)


def test_a_perfect_prediction_is_perfect():
    figures = judged(Y, Y, np.full(400, 1e-3), Y)
    assert figures["rmse"] == 0
    assert figures["spearman"] == pytest.approx(1)
    assert figures["recall"] == figures["best20"] == figures["coverage"] == 1


def test_the_mean_of_all_knows_nothing():
    figures = judged(np.zeros(400), np.full(400, Y.mean()), None, Y)
    assert figures["rmse"] == pytest.approx(1)
    assert figures["spearman"] == 0
    assert set(figures) == set(COLUMNS) - {"coverage", "nlpd"}


def test_honest_doubt_covers_nine_tenths_and_scores_best():
    noise = np.random.default_rng(1).normal(size=20_000)
    honest, timid, bold = (judged(noise, np.zeros(20_000), np.full(20_000, std), noise) for std in (1.0, 2.0, 0.5))
    assert honest["coverage"] == pytest.approx(0.9, abs=0.01)
    assert honest["nlpd"] == pytest.approx(0.5 * np.log(2 * np.pi) + 0.5, abs=0.02)
    assert honest["nlpd"] < min(timid["nlpd"], bold["nlpd"])


@given(arrays(float, 40, elements=st.integers(0, 100).map(float)), st.floats(0.1, 1000))
def test_units_change_nothing(mean, unit):
    y = Y[:40]
    before, after = (judged(mean, scale * mean, np.full(40, scale * 0.3), scale * y) for scale in (1.0, unit))
    assert {name: before[name] for name in ("rmse", "spearman")} == pytest.approx(
        {name: after[name] for name in ("rmse", "spearman")}, abs=1e-6
    )
    assert before["nlpd"] == pytest.approx(after["nlpd"], rel=1e-6)


def test_failures_everywhere_give_numbers():
    figures = judged(np.arange(30.0), np.arange(30.0), np.ones(30), np.append(np.zeros(29), 1.0))
    assert all(np.isfinite(value) for value in figures.values())
