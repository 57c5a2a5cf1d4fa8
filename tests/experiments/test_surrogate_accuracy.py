"""Tuning sets are what their selection says, and leave something to be judged."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import surrogate_accuracy
from experiments.accuracy_report import SELECTED
from experiments.recorded import Layer
from experiments.surrogate_accuracy import chosen
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


@pytest.mark.parametrize("selection", SELECTED)
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


@pytest.fixture
def judged(monkeypatch, tmp_path):
    """Seven layers of which five are learned from together; yields what is judged of them, without learning anything."""
    layers = [replace(LAYER, name=f"layer {number}") for number in range(7)]
    cases = []
    monkeypatch.setattr(surrogate_accuracy, "OUT", tmp_path)
    monkeypatch.setattr(surrogate_accuracy, "_layers", lambda arguments: (layers, layers))
    monkeypatch.setattr(surrogate_accuracy.Sources, "of", lambda *_, **__: None)

    def lines(arguments, sources, case):
        cases.append(case[0].name)
        line = dict(zip(("layer", "points", "selection", "seed", "surrogate"), (case[0].name, *case[1:]), strict=True))
        yield line | {"judge": "random"}
        yield line | {"judge": "all"}

    monkeypatch.setattr(surrogate_accuracy, "_lines", lines)
    return cases


RUN = ["run", "--device", "v100", "--points", "64", "--seeds", "1", "--surrogates", "exact GP"]


def test_only_the_named_layers_are_judged(judged):
    assert surrogate_accuracy.main([*RUN, "--layers", "layer 1", "layer 6"]) == 0
    assert judged == ["layer 1"] * 3 + ["layer 6"] * 3


def test_a_case_that_was_stopped_between_its_judgements_is_judged_again(judged, tmp_path):
    assert surrogate_accuracy.main([*RUN, "--layers", "layer 1"]) == 0
    (log,) = tmp_path.glob("*.jsonl")
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    assert surrogate_accuracy.main([*RUN, "--layers", "layer 1"]) == 0
    assert len(judged) == 4


def test_an_unknown_layer_is_named(judged, capsys):
    assert surrogate_accuracy.main([*RUN, "--layers", "layer 9"]) == 2
    assert "--layers: layer 9 not among layer 0" in capsys.readouterr().err
    assert judged == []
