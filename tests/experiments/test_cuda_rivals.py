"""Rivals' kernels are built once and run once a turn; one that fails is worth nothing and is not tried again."""

from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import cuda_rivals, kernel_cases, log
from experiments.cuda_rivals import CuDNN, MetaSchedule, kernel_name, process
from experiments.device_comparison import Setting
from tvm_bridge import Target
from tvm_bridge.measure import jobs
from tvm_bridge.measure.base import DeviceError, ErrorCategory
from tvm_bridge.measure.process import Outcome

LAYER = "resnet-18", "rb4-sc"


@pytest.fixture
def setting(tmp_path):
    target = Target.parse({"kind": "cuda", "arch": "sm_90"})
    return Setting("cuda", tmp_path, target, (LAYER,), (64, 400), min_repeat_ms=10)


@pytest.fixture
def searched(setting, monkeypatch):
    """A finished search, whose databases are not read."""
    monkeypatch.setattr(cuda_rivals, "first_rounds", lambda folder, trials, into: trials)
    theirs = MetaSchedule(setting)
    log.append(
        theirs.folder(*LAYER) / "batches.jsonl", {"trials": 400, "seconds": 9.0}, {"trials": 0, "seconds": 0.0, "finished": 400}
    )
    return theirs


@pytest.fixture
def worker(monkeypatch):
    """A process that is none: it notes what is asked of it, and answers by the job's name, of a run by the kernel's."""
    worker = SimpleNamespace(done=[], stopped=0, answers={}, kernels=iter(["first", "second"]))

    class Fake:
        def __init__(self, environment):
            worker.environment = environment

        def call(self, function, *arguments, limit):
            job = arguments[0] if function is jobs.run else function.__name__
            worker.done.append((job, arguments, limit))
            return worker.answers.get(job) or Outcome(value=next(worker.kernels) if job == "build" else job)

        def stop(self):
            worker.stopped += 1

    monkeypatch.setattr(kernel_cases, "Worker", Fake)
    return worker


def names(worker):
    return [name for name, *_ in worker.done]


def test_a_search_that_was_stopped_has_no_kernels(setting):
    theirs = MetaSchedule(setting)
    assert theirs.kernels(*LAYER) == []
    log.append(theirs.folder(*LAYER) / "batches.jsonl", {"trials": 128, "seconds": 9.0})
    assert theirs.kernels(*LAYER) == []


def test_the_best_of_each_budget_is_built_once_and_runs_once_a_turn(searched, worker, setting):
    flop = setting.task(*LAYER).flop
    worker.answers = {"first": Outcome(value=[3e-6, 1e-6, 2e-6]), "second": Outcome(value=[1e-6] * 3)}
    turns = searched.turns(*LAYER)
    for turn in islice(turns, 2):
        assert turn == pytest.approx({kernel_name(64): flop / 2e-6 / 1e9, kernel_name(400): flop / 1e-6 / 1e9})
    turns.close()
    assert [arguments[1] for name, arguments, _ in worker.done if name == "build"] == [64, 400]
    assert names(worker).count("first") == names(worker).count("second") == 2
    assert (worker.stopped, searched.facts) == (1, {"metaschedule": {}})


def test_a_kernel_that_fails_is_worth_nothing_and_costs_its_process(searched, worker):
    wrong = jobs.Failure(ErrorCategory.WRONG_ANSWER, "all results are wrong")
    worker.answers = {"first": Outcome(value=wrong), "second": Outcome(value=[1e-6] * 3)}
    turns = searched.turns(*LAYER)
    for turn in islice(turns, 2):
        assert turn[kernel_name(64)] == 0.0 < turn[kernel_name(400)]
    assert names(worker).count("build") == 2
    assert worker.stopped == 1
    assert searched.facts == {"metaschedule": {kernel_name(64): "all results are wrong"}}


def test_without_a_device_there_is_no_turn(searched, worker):
    worker.answers = {"prepare": Outcome(value=jobs.Unreachable("there is no CUDA device"))}
    with pytest.raises(DeviceError, match="no CUDA device"):
        next(searched.turns(*LAYER))


def test_without_a_device_no_search_is_begun(searched, worker, setting):
    worker.answers = {"local_device": Outcome(value=jobs.Unreachable("there is no CUDA device"))}
    with process(setting) as searching, pytest.raises(DeviceError, match="no CUDA device"):
        searched.search(searching, *LAYER, limit=60.0)
    assert names(worker) == ["local_device"]


def test_a_search_has_all_cores_and_the_setting_s_times(setting, worker, monkeypatch):
    monkeypatch.setattr(cuda_rivals, "host_cores", lambda: 16)
    theirs = MetaSchedule(setting)
    with process(setting) as searching:
        assert theirs.search(searching, *LAYER, limit=60.0) == ""
    _, (name, (subject, folder, trials, batch, conditions), limit) = worker.done
    assert (name, trials, batch, limit) == ("tune", 400, 64, 60.0)
    assert (subject.target, folder) == (setting.target, Path(theirs.folder(*LAYER)))
    assert (conditions.cores, conditions.min_repeat_ms) == (16, 10)
    assert worker.environment["TVM_NUM_THREADS"] == "16"
    assert worker.stopped == 1
    worker.answers = {"tune": Outcome(failure="timeout", message="stopped after 60 s")}
    with process(setting) as searching:
        assert theirs.search(searching, *LAYER, limit=60.0) == "stopped after 60 s"


def test_pytorch_is_asked_once_a_turn(setting):
    asked = []

    def measure(workload, milliseconds):
        asked.append(milliseconds)
        return {"torch": {"seconds": 2e-6}, "cudnn": {"seconds": 1e-6, "implementation": "implicit_gemm"}}

    versions = {"torch": "2.11", "cuda": True, "cudnn": 91002}
    rival = CuDNN(SimpleNamespace(measure=measure, versions=versions), 10)
    flop = setting.task(*LAYER).flop
    for turn in islice(rival.turns(*LAYER), 3):
        assert turn == pytest.approx({"torch": flop / 2e-6 / 1e9, "cudnn": flop / 1e-6 / 1e9})
    assert asked == [10] * 3
    assert rival.facts == {"torch": versions, "implementations": {"cudnn": "implicit_gemm"}}
