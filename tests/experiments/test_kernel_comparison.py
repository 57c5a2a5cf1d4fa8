"""A layer is compared once, and again when there is something new; only our own kernel's failure costs the layer."""

import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import kernel_comparison, metaschedule
from experiments.kernel_cases import Missing, cases
from experiments.kernel_comparison import ROUNDS, compared
from experiments.torch_convolution import EAGER, KERNELS
from tvm_bridge import ErrorCategory, Measurement, Record, RecordLog
from tvm_bridge.measure import jobs
from tvm_bridge.measure.process import Outcome


@pytest.fixture
def case(tmp_path):
    (case,) = cases(["alexnet"], ["conv5"], 1, tmp_path)
    case.records.parent.mkdir(parents=True)
    return case


@pytest.fixture
def searched(monkeypatch):
    """What MetaSchedule has measured."""
    searched = []
    monkeypatch.setattr(metaschedule, "spent", lambda folder: (len(searched), 10.0 * len(searched)))
    return searched


@pytest.fixture
def turns(monkeypatch):
    """Everybody's turns take as long as our best kernel's measurement."""

    def turns(case, ours, torch, *, searched):
        times = {name: [best.measurement.cost] for name, (_, best) in ours.items()}
        names = [*(["metaschedule"] if searched else []), *([*EAGER, *KERNELS] if torch else [])]
        times |= {name: [ours["ours"][1].measurement.cost] for name in names}
        return {"times": times, "implementations": {}, "device": "a CPU, 1 threads", "failure": ""}

    monkeypatch.setattr(kernel_comparison, "_turns", turns)


def measured(case, index, seconds):
    config = None if index < 0 else case.task.space.to_config(case.task.space.from_index(index))
    RecordLog(case.records).append(Record(case.task.key, index, config, Measurement((seconds,), timestamp=time.time())))


def test_an_untuned_layer_is_missing(case):
    with pytest.raises(Missing, match="alexnet conv5: not tuned yet"):
        compared(case, None, [])


def test_a_layer_is_compared_again_only_for_something_new(case, searched, turns):
    for index, seconds in ((-1, 0.5), (7, 0.02), (8, 0.03)):
        measured(case, index, seconds)
    tunings = [{"layer": case.label, "seconds": 40.0}, {"layer": "another", "seconds": 1.0}]
    line = compared(case, None, tunings)
    assert line["times"] == {"ours": [0.02], "untuned": [0.5]}
    assert (line["layer"], line["group"], line["threads"]) == ("alexnet conv5", "dense", 1)
    assert {name: kernel["index"] for name, kernel in line["kernels"].items()} == {"ours": 7}
    assert (line["operations"], line["tuning"]["ours"]) == (case.layer.workload.flop, [2, 40.0])
    assert compared(case, None, tunings, line) is None
    measured(case, 9, 0.01)
    better = compared(case, None, tunings, line)
    assert (better["kernels"]["ours"]["index"], better["times"]["ours"]) == (9, [0.01])
    assert compared(case, None, tunings, better) is None
    measured(case, 10, 0.04)  # not better, but the line says how many measurements there were
    more = compared(case, None, tunings, better)
    assert (more["kernels"]["ours"]["index"], more["tuning"]["ours"]) == (9, [4, 40.0])
    searched.append(64)
    everything = compared(case, None, tunings, more)
    assert set(everything["times"]) == {"ours", "untuned", "metaschedule"}
    torch = SimpleNamespace(version="2")
    beside = compared(case, torch, tunings, everything)
    assert set(beside["times"]) == {"ours", "untuned", "metaschedule", *EAGER, *KERNELS}
    assert beside["torch"] == "2"
    assert compared(case, torch, tunings, beside) is None
    assert compared(case, None, tunings, beside) is None
    measured(case.channels_last, 5, 0.005)
    tunings.append({"layer": case.channels_last.label, "seconds": 2.0})
    both = compared(case, torch, tunings, beside)
    assert (both["kernels"]["ours_channels_last"]["index"], both["times"]["ours_channels_last"]) == (5, [0.005])
    assert both["tuning"]["ours"] == [5, 42.0]


@pytest.fixture
def worker(monkeypatch):
    """A process that does not do what it is asked: runs of kernels in `failing` fail, `asked` has the jobs."""
    failing, asked = {}, []

    def call(function, *args, limit):
        asked.append(function)
        if function is jobs.prepare:
            return Outcome("a CPU, 1 threads")
        if function is jobs.run:
            return failing.get(args[0].path, Outcome([0.3, 0.1, 0.2]))
        return Outcome(jobs.Built(Path(args[-1]).stem, (), ()))

    @contextmanager
    def process(threads):
        yield SimpleNamespace(call=call, stop=lambda: asked.append("stop"))

    monkeypatch.setattr(kernel_comparison, "process", process)
    monkeypatch.setattr(kernel_comparison, "REST", 0)
    return SimpleNamespace(failing=failing, asked=asked)


WRONG = Outcome(jobs.Failure(ErrorCategory.WRONG_ANSWER, "all results are wrong"))


def test_everybody_takes_all_turns(case, searched, worker):
    searched.append(64)
    measured(case, 7, 0.02)
    line = compared(case, None, [])
    assert line["times"] == {"ours": [0.2] * ROUNDS, "metaschedule": [0.2] * ROUNDS, "untuned": []}
    assert (line["device"], line["failure"]) == ("a CPU, 1 threads", "")
    assert worker.asked.count(jobs.prepare) == 1


def test_each_layout_has_a_process_and_a_reference(case, searched, worker):
    searched.append(64)
    measured(case, 7, 0.02)
    measured(case.channels_last, 5, 0.02)
    line = compared(case, None, [])
    assert set(line["times"]) == {"ours", "ours_channels_last", "metaschedule", "untuned"}
    assert worker.asked.count(jobs.prepare) == 2
    assert worker.asked.count(jobs.build) == 2


@pytest.mark.parametrize("failure", [WRONG, Outcome(failure="timeout", message="stopped after 300 s")])
def test_a_layer_goes_on_without_a_kernel_of_metaschedule_that_fails(case, searched, worker, failure):
    searched.append(64)
    measured(case, 7, 0.02)
    worker.failing["metaschedule"] = failure
    line = compared(case, None, [])
    assert line["times"] == {"ours": [0.2] * ROUNDS, "metaschedule": [None], "untuned": []}
    assert line["failure"].startswith("alexnet conv5: MetaSchedule's kernel: ")
    after = worker.asked[worker.asked.index("stop") :]
    assert after == ["stop", jobs.prepare, *[jobs.run] * (ROUNDS - 1)]


def test_a_kernel_of_ours_that_fails_costs_the_layer(case, searched, worker):
    measured(case, 7, 0.02)
    worker.failing["ours"] = WRONG
    with pytest.raises(Missing, match=r"alexnet conv5: our kernel: all results are wrong\."):
        compared(case, None, [])


@pytest.mark.parametrize("error", [RuntimeError("the process ended"), BrokenPipeError("the process ended")])
def test_a_pytorch_that_fails_costs_the_layer(case, searched, worker, error):
    def measure(*_, **__):
        raise error

    measured(case, 7, 0.02)
    with pytest.raises(Missing, match=r"alexnet conv5: PyTorch: the process ended\."):
        compared(case, SimpleNamespace(version="2", measure=measure), [])
