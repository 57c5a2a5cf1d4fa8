"""Tunings come in an order in which histories exist, and name their logs apart."""

from types import SimpleNamespace

import pytest

from experiments import llvm_comparison
from experiments.llvm_comparison import LAYERS, ROUNDS, Tuning, incumbents, judged, tunings
from search.methods import METHODS
from tvm_bridge.measure.base import ErrorCategory, Measurement


def test_random_search_comes_first_and_a_seed_is_done_before_the_next():
    every = list(tunings(list(METHODS), 2, 1))
    assert [each.seed for each in every] == sorted(each.seed for each in every)
    for seed in range(2):
        ours = [each for each in every if each.seed == seed]
        assert {each.method for each in ours[: len(LAYERS)]} == {"random"}
        assert "random" not in {each.method for each in ours[len(LAYERS) :]}
    assert len({each.path for each in every}) == len(every)


def test_history_is_random_search_on_the_other_layers_with_the_same_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(llvm_comparison, "FOLDER", tmp_path)
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


def test_an_ablation_alone_has_logs_of_its_own_and_those_of_history_need_one():
    without, with_history = "gausstune, random start", "gausstune, nothing replayed"
    every = list(tunings([without, with_history], 1, 1))
    assert len({each.path for each in every}) == len(every) == 3 * len(LAYERS)
    assert {each.history for each in every if each.method == with_history} == {"same"}
    assert all(each.path.name.startswith(f"{each.network}-{each.layer}-gausstune-") for each in every)
    assert not any(" " in each.path.name for each in every)


def test_incumbents_are_the_best_after_each_budget_without_the_default_and_failures():
    costs = [0.001, *[None] * 9, *[1 / n for n in range(1, 9)], 0.5]  # of the default schedule, of failures, of others
    records = [
        SimpleNamespace(
            config=None if n == 0 else {"tile": n},
            measurement=Measurement((), ErrorCategory.RUN_TIMEOUT, "no") if cost is None else Measurement((cost,)),
        )
        for n, cost in enumerate(costs)
    ]
    assert incumbents(SimpleNamespace(records=records)) == [None, *[{"tile": n} for n in (16, 17, 17, 17)]]


def test_a_tuning_is_worth_what_its_incumbents_are_when_measured_again():
    fast, slow = {"tile": [1, 2]}, {"tile": [2, 1]}
    tuning = {"cores": 1, "task": "layer"}
    judgements = [
        {**tuning, "config": config, "round": number, "gflops": gflops}
        for config, each in ((fast, (6.0, 1.0, 8.0)), (slow, (3.0, 2.0, 1.0)))
        for number, gflops in enumerate(each)
    ]
    judgements = [{**each, "gflops": 1000.0} for each in judgements] + judgements  # of another day
    judgements.append({**tuning, "cores": 2, "config": slow, "round": 0, "gflops": 99.0})
    line = {**tuning, "incumbents": [None, fast, slow, slow, fast]}
    (found,) = judged([line], judgements)
    assert (found["best"], found["judged"]) == ([0.0, 8.0, 3.0, 3.0, 8.0], 8.0)


def test_judging_measures_all_incumbents_of_a_layer_in_turns_and_anew_if_one_is_new(monkeypatch):
    class Measured:
        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def stream(self, task, configs):
            yield from ((place, Measurement((0.001,))) for place in reversed(range(len(configs))))

    monkeypatch.setattr(llvm_comparison, "measuring", Measured)
    network, layer = LAYERS[0]
    lines = [
        {"network": network, "layer": layer, "cores": 1, "incumbents": [None, {"tile": first}, {"tile": 3}]} for first in (1, 2)
    ]
    every = list(llvm_comparison._judged(lines, set()))
    assert [line["config"]["tile"] for line in every] == [2, 3, 1] * ROUNDS
    assert [line["round"] for line in every] == [turn for turn in range(ROUNDS) for _ in range(3)]
    done = {llvm_comparison._judgement(line) for line in every}
    assert list(llvm_comparison._judged(lines, done)) == []
    assert list(llvm_comparison._judged(lines, done - {llvm_comparison._judgement(every[4])})) == every
