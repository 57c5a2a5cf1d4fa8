"""Stages are done in order, go on where they were stopped, and say in a line what is wrong."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from experiments import cpu_kernels, log, metaschedule
from experiments.kernel_cases import cases
from tvm_bridge import ErrorCategory, Measurement, Record, RecordLog, TuningError
from tvm_bridge.measure.process import Outcome

ONE = ["--networks", "alexnet", "--layers", "conv5", "--threads", "1"]


@pytest.fixture
def run(tmp_path, capsys):
    def run(*arguments):
        code = cpu_kernels.main([*arguments, *ONE, "--out", str(tmp_path)])
        return code, capsys.readouterr().err

    return run


def tuner(monkeypatch, *, ends=None):
    """Pretend to tune: go through what is in the log, make up to two more measurements that fail, then end."""

    def tune(task, *, trials, log, callbacks, **_):
        written = RecordLog(log)
        known = len(written.records)
        for number in range(min(known + 2, trials)):
            record = Record(task.key, number, {}, Measurement((), ErrorCategory.RUN_TIMEOUT, "stopped after 10 s"))
            if number >= known:
                written.append(record)
            callbacks[0](SimpleNamespace(reused=number < known, record=record))
        if ends:
            raise ends

    monkeypatch.setattr(cpu_kernels, "tune", tune)


def test_stages_are_done_in_their_order(monkeypatch, run):
    done = []
    for stage in cpu_kernels.STAGES:
        monkeypatch.setitem(cpu_kernels.STAGES, stage, lambda chosen, arguments, complain, stage=stage: done.append(stage))
    assert run("report", "compare", "tune") == (0, "")
    assert done == ["tune", "compare", "report"]


def test_ctrl_c_is_one_line_and_keeps_what_was_measured(monkeypatch, run, tmp_path):
    tuner(monkeypatch, ends=KeyboardInterrupt())
    code, complaint = run("tune", "--trials", "8")
    assert code == 130
    assert "the same command goes on" in complaint
    (line,) = log.read(tmp_path / "1-threads" / "tune.jsonl")
    assert (line["layer"], line["trials"]) == ("alexnet conv5", 2)


def test_what_is_tuned_is_not_tuned_again(monkeypatch, run, tmp_path):
    tuner(monkeypatch)
    for _ in range(4):
        assert run("tune", "--trials", "7")[0] == 0
    measured = [(line["layer"], line["trials"]) for line in log.read(tmp_path / "1-threads" / "tune.jsonl")]
    assert measured == [("alexnet conv5", 2), ("alexnet conv5-nhwc", 2), ("alexnet conv5", 2), ("alexnet conv5-nhwc", 1)]


def test_what_a_killed_session_measured_counts(monkeypatch, run, tmp_path):
    tuner(monkeypatch)
    for _ in range(2):
        run("tune", "--trials", "8")
    (tmp_path / "1-threads" / "tune.jsonl").unlink()
    tuner(monkeypatch, ends=AssertionError("there is nothing left to tune"))
    assert run("tune", "--trials", "8") == (0, "")


@pytest.fixture
def worker(monkeypatch):
    """A process whose search measures as many candidates as are in `counts`, one count a search, then fails if that is None."""
    counts = []

    def call(function, subject, folder, trials, batch, *, limit):
        count = counts.pop(0)
        line = {"trials": count or 1, "seconds": 1.0} | ({} if count is None else {"finished": trials})
        log.extend(folder / "batches.jsonl", lambda _: [line])
        return Outcome(failure="crash", message="the process died") if count is None else Outcome()

    @contextmanager
    def process(threads):
        yield SimpleNamespace(call=call)

    monkeypatch.setattr(cpu_kernels, "process", process)
    return counts


def test_a_search_is_done_once_it_has_finished(worker, run):
    worker += [None, 8]
    assert run("metaschedule", "--trials", "8") == (1, "cpu_kernels: alexnet conv5: MetaSchedule failed: the process died.\n")
    assert run("metaschedule", "--trials", "8") == (0, "")
    assert run("metaschedule", "--trials", "8") == (0, "")


def test_a_search_that_found_too_few_candidates_is_told(worker, run, tmp_path):
    worker += [5]
    code, complaint = run("metaschedule", "--trials", "8")
    assert code == 1
    assert "alexnet conv5: MetaSchedule found 5 candidates to measure, not 8." in complaint
    (case,) = cases(["alexnet"], ["conv5"], 1, tmp_path)
    assert metaschedule.finished(case.searched, 8)


def test_a_layer_that_fails_is_told_and_the_rest_goes_on(monkeypatch, run):
    tuner(monkeypatch, ends=TuningError("alexnet conv5: all 8 trials failed."))
    assert run("tune", "--trials", "8") == (1, "cpu_kernels: alexnet conv5: all 8 trials failed.\n" * 2)  # in both layouts
    assert run("compare") == (1, "cpu_kernels: alexnet conv5: not tuned yet; run the stage `tune` first.\n")


def test_wrong_input_is_one_line(run, capsys):
    code, complaint = run("report")
    assert (code, complaint.count("\n")) == (2, 1)
    assert "holds no comparison yet" in complaint
    assert cpu_kernels.main(["tune", "--networks", "lenet"]) == 2
    assert capsys.readouterr().err.startswith("cpu_kernels: network: 'lenet' is not one of")
