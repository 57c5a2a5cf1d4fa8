"""A layer is compared once, and again when something better or something new is there to compare."""

import time

import pytest

from experiments import kernel_comparison, metaschedule
from experiments.kernel_cases import Missing, cases
from experiments.kernel_comparison import compared
from tvm_bridge import Measurement, Record, RecordLog


@pytest.fixture
def case(tmp_path, monkeypatch):
    (case,) = cases(["alexnet"], ["conv5"], 1, tmp_path)
    case.records.parent.mkdir(parents=True)
    searched = []
    monkeypatch.setattr(metaschedule, "spent", lambda folder: (len(searched), 10.0 * len(searched)))

    def turns(case, best, torch, *, searched):
        names = ["ours", *(["metaschedule"] if searched else []), *(["torch"] if torch else [])]
        return {name: [best.measurement.cost] for name in names}, {}, "a CPU, 1 threads"

    monkeypatch.setattr(kernel_comparison, "_turns", turns)
    return case, searched


def measured(case, index, seconds):
    config = None if index < 0 else case.task.space.to_config(case.task.space.from_index(index))
    RecordLog(case.records).append(Record(case.task.key, index, config, Measurement((seconds,), timestamp=time.time())))


def test_an_untuned_layer_is_missing(case):
    with pytest.raises(Missing, match="alexnet conv5: not tuned yet"):
        compared(case[0], None, [])


def test_a_layer_is_compared_again_only_for_something_new(case):
    case, searched = case
    for index, seconds in ((-1, 0.5), (7, 0.02), (8, 0.03)):
        measured(case, index, seconds)
    line = compared(case, None, [{"layer": case.label, "seconds": 40.0}, {"layer": "another", "seconds": 1.0}])
    assert line["times"] == {"ours": [0.02], "untuned": [0.5]}
    assert (line["layer"], line["group"], line["threads"], line["index"]) == ("alexnet conv5", "dense", 1, 7)
    assert (line["operations"], line["tuning"]["ours"]) == (case.layer.workload.flop, [2, 40.0])
    assert compared(case, None, [], line) is None
    measured(case, 9, 0.01)
    better = compared(case, None, [], line)
    assert (better["index"], better["times"]["ours"]) == (9, [0.01])
    assert compared(case, None, [], better) is None
    searched.append(64)
    assert set(compared(case, None, [], better)["times"]) == {"ours", "untuned", "metaschedule"}
