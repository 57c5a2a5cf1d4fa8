"""Tunings come in an order in which histories exist, name their logs apart, and go on where a session stopped."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import device_comparison
from experiments.device_comparison import HISTORIES, Setting, Tuning, incumbents, tuned, tunings, unfinished
from search.methods import METHODS
from tests.experiments.pretended import Pretended
from tvm_bridge import Target, read_records
from tvm_bridge.measure.base import ErrorCategory, Measurement

LAYERS = (("resnet-18", "rb4-sc"), ("mobilenet-v1", "sp-7-conv2"), ("alexnet", "conv5"))


@pytest.fixture
def setting(tmp_path):
    return Setting("llvm", tmp_path, Target.parse("llvm -mcpu=x86-64-v3 -num-cores=1"), LAYERS, (2, 4), min_repeat_ms=1)


@pytest.fixture
def measured(monkeypatch):
    """Tunings measure by a measurer that pretends, in this process."""

    def measured(measurer):
        monkeypatch.setattr(Setting, "measurer", lambda _: measurer)
        monkeypatch.setattr(
            device_comparison, "_alone", lambda tuning, until: tuning.line(until) if time.time() < until else None
        )
        return measurer

    return measured


def never(text):
    raise AssertionError(text)


def test_random_search_comes_first_and_a_seed_is_done_before_the_next(setting):
    every = list(tunings(setting, dict.fromkeys(METHODS, HISTORIES), 2))
    assert [each.seed for each in every] == sorted(each.seed for each in every)
    for seed in range(2):
        ours = [each for each in every if each.seed == seed]
        assert {each.method for each in ours[: len(LAYERS)]} == {"random"}
        assert "random" not in {each.method for each in ours[len(LAYERS) :]}
    assert len({each.path for each in every}) == len({each.key for each in every}) == len(every)


def test_a_method_tunes_with_the_histories_that_it_is_given(setting):
    every = tunings(setting, {"autotvm": ["none"], "dgp-transfer": ["none", "same"], "gga": ["same"]}, 1)
    assert [(each.method, each.history) for each in every][:3] == [
        ("autotvm", "none"),
        ("dgp-transfer", "same"),  # which cannot do without
        ("gga", "same"),
    ]


def test_history_is_random_search_on_the_other_layers_with_the_same_seed(setting):
    logs = {layer: Tuning(setting, *layer, "random", "none", 3).path for layer in LAYERS}
    next(iter(logs.values())).parent.mkdir(parents=True)
    for path in logs.values():
        path.touch()
    own, *others = LAYERS
    assert Tuning(setting, *own, "gga", "same", 3).taught == [logs[layer] for layer in others]
    assert Tuning(setting, *own, "gga", "none", 3).taught == []
    with pytest.raises(FileNotFoundError, match=r"history: .* run `--methods random` first"):
        Tuning(setting, *own, "gga", "same", 4).taught  # noqa: B018
    more = Setting(**vars(setting) | {"history": (Path("elsewhere.jsonl"),)})
    assert Tuning(more, *own, "gga", "same", 3).taught[-1] == Path("elsewhere.jsonl")


def test_an_ablation_alone_has_logs_of_its_own_and_those_of_history_need_one(setting):
    without, with_history = "gausstune, random start", "gausstune, nothing replayed"
    every = list(tunings(setting, dict.fromkeys([without, with_history], HISTORIES), 1))
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
    found = incumbents(SimpleNamespace(records=records), (8, 16, 32, 64, 128))
    assert found == [None, *[{"tile": n} for n in (16, 17, 17, 17)]]
    assert incumbents(SimpleNamespace(records=records[:1]), (8, 16)) == [None, None]


def test_a_tuning_is_one_line_and_one_log_and_is_not_done_again(setting, measured):
    measurer = measured(Pretended())
    wanted = list(tunings(setting, {"random": ["none"], "grid": ["none"]}, 1))
    lines = list(tuned(wanted, [], complain=never))
    assert [(line["task"], line["method"]) for line in lines] == [(each.key[0], each.method) for each in wanted]
    assert {line["stopped"] for line in lines} == {"trials"}
    assert all(len(line["incumbents"]) == 2 for line in lines)
    assert all(len(read_records(each.path)) == 1 + setting.trials for each in wanted)
    assert len(measurer.asked) == len(wanted) * (1 + setting.trials)
    assert list(tuned(wanted, lines, complain=never)) == unfinished(wanted, lines) == []
    assert setting.finished(lines) == lines
    longer = Setting(**vars(setting) | {"budgets": (2, 4, 8)})
    assert unfinished(again := list(tunings(longer, {"random": ["none"]}, 1)), lines) == again
    assert longer.finished(lines) == []


def test_a_session_that_ran_out_of_time_goes_on_in_the_next(setting, measured, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(device_comparison, "time", SimpleNamespace(time=lambda: clock[0]))
    first, *others = wanted = list(tunings(setting, {"random": ["none"]}, 1))

    def late():
        clock[0] = 200.0
        time.sleep(0.2)  # as long as a tuning has that begins in the last moment

    measurer = measured(Pretended(before=late))
    monkeypatch.setattr(device_comparison, "_alone", lambda tuning, until: tuning.line(until) if clock[0] < until else None)
    (begun,) = tuned(wanted, [], complain=never, until=100.05)
    assert (begun["stopped"], begun["task"]) == ("time limit", first.key[0])
    assert unfinished(wanted, [begun]) == wanted
    before = len(measurer.asked)
    assert before < 1 + setting.trials
    measurer.before = lambda: None
    lines = list(tuned(wanted, [begun], complain=never))
    assert unfinished(wanted, [begun, *lines]) == []
    assert len(measurer.asked) == len(wanted) * (1 + setting.trials)  # none of them twice
    assert lines[0]["measuring"] >= begun["measuring"] > 0
    assert len(others) == len(lines) - 1


def test_a_layer_on_which_nothing_works_does_not_stop_the_others(setting, measured):
    measured(Pretended(refused="alexnet conv5"))
    wanted, complaints = list(tunings(setting, {"random": ["none"]}, 1)), []
    lines = list(tuned(wanted, [], complain=complaints.append))
    assert [line["task"] for line in lines] == ["resnet-18 rb4-sc", "mobilenet-v1 sp-7-conv2"]
    (complaint,) = complaints
    assert complaint.startswith("alexnet conv5: all 4 trials failed")
    assert [each.layer for each in unfinished(wanted, lines)] == ["conv5"]


def test_as_many_tunings_run_at_once_as_the_setting_says_and_histories_come_first(setting, monkeypatch):
    together = Setting(**vars(setting) | {"at_once": 2})
    begun, ended, most = [], [], []

    def alone(tuning, until):
        begun.append(tuning)
        most.append(len(begun) - len(ended))
        if tuning.history == "same":
            assert all(each in ended for each in begun if each.method == "random")
        time.sleep(0.01)
        ended.append(tuning)

    monkeypatch.setattr(device_comparison, "_alone", alone)
    wanted = list(tunings(together, {"random": ["none"], "gga": ["same"]}, 1))
    assert list(tuned(wanted, [], complain=never)) == []
    assert sorted(each.key for each in ended) == sorted(each.key for each in wanted)
    assert max(most) == 2


def test_what_goes_wrong_in_one_tuning_stops_the_rest(setting, monkeypatch):
    begun = []

    def alone(tuning, until):
        begun.append(tuning)
        raise FileNotFoundError("history: it is not there yet")

    monkeypatch.setattr(device_comparison, "_alone", alone)
    wanted = list(tunings(setting, {"random": ["none"], "grid": ["none"]}, 20))
    with pytest.raises(FileNotFoundError, match="history"):
        list(tuned(wanted, [], complain=never))
    assert len(begun) <= len(LAYERS)
