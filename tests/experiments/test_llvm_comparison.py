"""Tunings come in an order in which histories exist, and name their logs apart."""

from types import SimpleNamespace

import pytest

from experiments import llvm_comparison
from experiments.llvm_comparison import LAYERS, Tuning, best_so_far, tunings
from experiments.method_comparison import suited
from tvm_bridge.measure.base import ErrorCategory, Measurement


def test_random_search_comes_first_and_a_seed_is_done_before_the_next():
    every = list(tunings(2, 1))
    assert [each.seed for each in every] == sorted(each.seed for each in every)
    for seed in range(2):
        ours = [each for each in every if each.seed == seed]
        assert {each.method for each in ours[: len(LAYERS)]} == {"random"}
        assert "random" not in {each.method for each in ours[len(LAYERS) :]}
    assert len({each.path for each in every}) == len(every)


def test_history_is_random_search_on_the_other_layers_with_the_same_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(llvm_comparison, "OUT", tmp_path)
    logs = {layer: Tuning(*layer, "random", "none", 3, 1).path for layer in LAYERS}
    next(iter(logs.values())).parent.mkdir(parents=True)
    for path in logs.values():
        path.touch()
    own, *others = LAYERS
    assert Tuning(*own, "gga", "same", 3, 1).taught == [logs[layer] for layer in others]
    assert Tuning(*own, "gga", "none", 3, 1).taught == []
    for other in (Tuning(*own, "gga", "same", 4, 1), Tuning(*own, "gga", "same", 3, 2)):
        with pytest.raises(FileNotFoundError, match=r"history: .* run `--methods random` first"):
            other.taught  # noqa: B018


def test_the_task_has_the_cores_that_were_asked_for():
    assert dict(Tuning(*LAYERS[0], "random", "none", 0, 1).task.target.attributes)["num-cores"] == 1


def test_dgp_transfer_has_its_proportion_of_the_budget():
    assert suited("dgp-transfer", 128) == {"tuning_set": 96, "deployed": 32}
    assert suited("gga", 128) == {}


def test_the_best_so_far_leaves_the_default_and_failures_out():
    task = SimpleNamespace(gflops=lambda seconds: 1 / seconds)
    measured = [
        Measurement((0.001,)),
        Measurement((), ErrorCategory.RUN_TIMEOUT, "no"),
        *[Measurement((1 / n,)) for n in range(1, 9)],
    ]
    records = [SimpleNamespace(config=None if n == 0 else {}, measurement=each) for n, each in enumerate(measured)]
    assert best_so_far(task, SimpleNamespace(records=records)) == pytest.approx([7, 8, 8, 8, 8])
