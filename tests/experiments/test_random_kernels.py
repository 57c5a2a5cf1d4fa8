"""Random configurations are tried once, whatever becomes of them, and judged by the best that is known."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import random_kernels
from experiments.kernel_cases import cases
from experiments.random_kernels import sampled, shares
from tvm_bridge import ErrorCategory
from tvm_bridge.measure import jobs
from tvm_bridge.measure.process import Outcome


@pytest.fixture
def processes(monkeypatch):
    """Processes that do not do what they are asked: `answers` says how it ends, `asked` what it was."""
    answers = {"prepare": Outcome("a CPU, 1 threads"), "run": Outcome([0.3, 0.1, 0.2])}
    asked = []

    @contextmanager
    def process(threads):
        def call(function, *args, limit):
            asked.append(function.__name__)
            worker.alive = True
            if function is not jobs.build:
                return answers[function.__name__]
            path = Path(args[-1])
            path.touch()
            return Outcome(jobs.Built(str(path), (), ()), seconds=0.5)

        worker = SimpleNamespace(alive=False, call=call)
        worker.stop = lambda: setattr(worker, "alive", False)
        yield worker

    monkeypatch.setattr(random_kernels, "process", process)
    return SimpleNamespace(answers=answers, asked=asked)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    (case,) = cases(["alexnet"], ["conv5"], 1, tmp_path_factory.mktemp("out"))
    return case


def test_what_was_tried_is_not_tried_again(processes, case):
    lines = list(sampled([case], 3, []))
    assert [(line["layer"], line["build"], line["seconds"], line["failure"]) for line in lines] == [
        ("alexnet conv5", 0.5, 0.2, "")
    ] * 3
    assert processes.asked.count("prepare") == 1
    processes.asked.clear()
    assert list(sampled([case], 3, lines)) == []
    assert processes.asked == []
    assert len(list(sampled([case], 3, lines[:2]))) == 1


def test_a_kernel_that_fails_is_told_and_the_next_has_another_process(processes, case):
    processes.answers["run"] = Outcome(jobs.Failure(ErrorCategory.WRONG_ANSWER, "all results are wrong"))
    lines = list(sampled([case], 3, []))
    assert [(line["seconds"], line["failure"]) for line in lines] == [(None, "all results are wrong")] * 3
    assert processes.asked.count("prepare") == 3


def test_a_reference_that_fails_names_its_layer(processes, case):
    processes.answers["prepare"] = Outcome(failure="timeout", message="stopped after 300 s")
    with pytest.raises(ValueError, match=r"alexnet conv5: the reference: stopped after 300 s\."):
        list(sampled([case], 3, []))
    processes.answers |= {"prepare": Outcome("a CPU"), "run": Outcome(jobs.Failure(ErrorCategory.UNKNOWN, "no reference"))}
    with pytest.raises(ValueError, match=r"alexnet conv5: no reference\."):
        list(sampled([case], 3, []))


def configurations(seconds):
    return [{"layer": "net a", "index": n, "build": 0.1 + n, "seconds": each} for n, each in enumerate(seconds)]


def test_random_configurations_are_judged_by_the_best_that_is_known():
    lines = configurations([0.02, 0.079, 0.081, None])
    (known,) = shares(lines, [{"layer": "net a", "times": {"ours": [0.01, 0.02, 0.9]}}])
    assert (known["near"], known["failed"], known["configurations"]) == (0.5, 1, 4)
    assert (known["compile"], known["long"]) == (pytest.approx(3.07), 0.75)
    (faster,) = shares(lines, [{"layer": "net a", "times": {"ours": [0.005]}}])
    assert faster["near"] == 0.25


def test_each_layout_is_judged_by_its_own_best():
    lines = configurations([0.02, 0.05]) + [{**line, "layer": "net a-nhwc"} for line in configurations([0.02, 0.05])]
    compared = [{"layer": "net a", "times": {"ours": [0.01], "ours_channels_last": [0.02]}}]
    assert [(each["layer"], each["near"]) for each in shares(lines, compared)] == [("net a", 0.5), ("net a-nhwc", 1.0)]


def test_where_all_fail_none_is_near_the_best():
    (known,) = shares(configurations([None, None]), [])
    assert (known["near"], known["failed"]) == (0.0, 2)
