"""Logs become models that tasks find, judged on what they have not learned; the same records give the same models."""

from dataclasses import replace
from typing import ClassVar

import equinox as eqx
import jax
import numpy as np
import pytest

from experiments import pretrain
from experiments.model_card import ADAPTED, READY
from surrogates import DeepGP, SquareRoot
from surrogates.pooling import pool
from tests.experiments.layer_logs import HOPPER, ROWS, recorded
from tests.search.ridge import Ridge
from tests.tvm_bridge.record_strategies import write_log
from tvm_bridge import networks
from tvm_bridge.pretrained import model_for
from tvm_bridge.target import Target
from tvm_bridge.task import task_of

MODEL = SquareRoot(DeepGP(inducing=4))
"""What stands for a model that has learned: a recipe is saved and loaded like one."""

LAYERS = {"alexnet": ("conv3", "conv4"), "vgg-16": ("conv3-1",)}
EVERY = ["alexnet conv3", "alexnet conv4", "vgg-16 conv3-1"]
NAME = "cuda-sm_90-conv2d_nchw"


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A log for each network."""
    folder = tmp_path_factory.mktemp("records")
    return [
        write_log(folder / f"{network}.jsonl.gz", [each for name in names for each in recorded(network, name)])
        for network, names in LAYERS.items()
    ]


@pytest.fixture(scope="module")
def group(logs):
    """What the logs hold of the only family and operator."""
    ((name, group),) = pretrain.recordings(logs).items()
    assert name == NAME
    return group


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Recipe(Ridge):
    """Learns in no time, and says so."""

    epochs: ClassVar[int] = 3

    def fit(self, x, y, *, key, progress=None):
        for epoch in (1, 3):
            progress(epoch, 0.25)
        return super().fit(x, y, key=key)


@pytest.fixture
def made(logs, monkeypatch, tmp_path):
    """Run the command without learning; returns the folder of what it wrote, and the names of what it would have learned."""
    taught = []

    def learned(some, **_):
        taught.append([each.layer.name for each in some])
        return MODEL

    def figures(_, some, **__):
        about = [{"device": "d", "layer": each.layer.name} for each in some]
        return [line | {"surrogate": name, "rmse": rmse} for line in about for name, rmse in ((READY, 0.5), (ADAPTED, 0.25))]

    monkeypatch.setattr(pretrain, "learned", learned)
    monkeypatch.setattr(pretrain, "figures", figures)
    assert pretrain.main([*map(str, logs), "--leave-out", "vgg-16", "--out", str(tmp_path), "--seed", "3"]) == 0
    return tmp_path, taught


def test_what_is_judged_was_not_learned_and_what_ships_has_learned_all(made):
    assert made[1] == [EVERY[:2], EVERY]


def test_the_model_is_the_one_that_tasks_of_the_family_find(made):
    task = task_of(networks.layer("resnet-18", "rb1-conv1").workload, HOPPER)
    assert eqx.tree_equal(model_for(task, made[0]), MODEL)
    with pytest.warns(UserWarning, match="has no model for"):
        assert model_for(replace(task, target=Target.parse("cuda -arch=sm_86")), made[0]) is None


def test_the_card_lies_beside_the_model_and_says_how_both_were_made(made, logs):
    out, _ = made
    card = (out / f"{NAME}.md").read_text()
    assert f"{NAME}.gst, {(out / f'{NAME}.gst').stat().st_size} bytes" in card
    assert f"python -m experiments.pretrain {logs[0]} {logs[1]} --leave-out vgg-16 --out {out} --seed 3" in card
    assert f"| {ADAPTED} | **0.250** ±0.00 |" in card


def test_the_same_records_and_seed_give_the_same_model(group, monkeypatch):
    monkeypatch.setattr(pretrain, "RECIPE", Recipe())
    one, again, other = (pretrain.learned(group, seed=seed, rows=30, say=lambda _: None) for seed in (3, 3, 4))
    assert eqx.tree_equal(one, again)
    assert not eqx.tree_equal(one, other)


def test_roots_of_shares_are_learned_of_a_sample_of_each_layer_with_words(group, monkeypatch):
    monkeypatch.setattr(pretrain, "RECIPE", Recipe())
    monkeypatch.setattr(pretrain, "QUIET_SECONDS", -1)
    told = []
    model = pretrain.learned(group, seed=0, rows=ROWS, say=told.append)
    said = ["learning 120 configurations of 3 tasks", *(f"epoch {epoch} of at most 3, RMSE 0.250" for epoch in (1, 3))]
    assert [line.rpartition(",")[0] or line for line in told] == said
    known = pool([(each.layer.x, each.layer.y) for each in group])
    expected = SquareRoot(Ridge()).fit(known.x, known.y, key=jax.random.key(0))
    np.testing.assert_allclose(model.predict(known.x).mean, expected.predict(known.x).mean, rtol=1e-4)


def test_figures_are_of_configurations_that_the_model_was_not_adapted_to(group, monkeypatch):
    monkeypatch.setattr(pretrain, "Residual", lambda base: base)  # whose process takes seconds to compile
    layer = group[0].layer
    base = Ridge().fit(layer.x, np.sqrt(layer.y / layer.y.max()), key=jax.random.key(0))
    nothing = replace(group[1], layer=replace(group[1].layer, y=np.zeros(ROWS, np.float32)))
    judged = []
    monkeypatch.setattr(pretrain, "judged", lambda score, mean, std, y: judged.append(y) or {"rmse": 0.0})
    lines = list(pretrain.figures(SquareRoot(base), [group[0], nothing], points=16, seed=0))
    assert [(line["layer"], line["surrogate"]) for line in lines] == [(EVERY[0], READY), (EVERY[0], ADAPTED)]
    assert [len(y) for y in judged] == [ROWS - 16] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--leave-out": "vgg"}, "network: 'vgg' is not one of alexnet"),
        ({"--leave-out": "resnet-18"}, "--leave-out: the logs have no layer of resnet-18; name a network that they have"),
        ({"logs": ["missing.jsonl"]}, "LOG: missing.jsonl is not there; give logs that experiments/record.py wrote"),
        ({"logs": ["empty.jsonl"]}, "LOG: no configuration of a known device was measured in empty.jsonl"),
    ],
    ids=["network", "no layer", "missing", "empty"],
)
def test_wrong_input_is_one_line_before_any_work(logs, here, change, message, capsys):
    open("empty.jsonl", "w").close()
    given = {"logs": logs, "--leave-out": "vgg-16", "--out": "models"} | change
    named = [word for name in ("--leave-out", "--out") for word in (name, given[name])]
    assert pretrain.main([*map(str, given["logs"]), *named]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"pretrain: {message}")
    assert not any(path.is_dir() for path in here.iterdir())
