"""Progress: AutoTVM's line where there is no terminal, a bar where there is one, failures counted by category."""

import io
import sys
from collections import Counter

import pytest

from search import KnobSpace, Option
from tests.tvm_bridge.record_strategies import RTX, record
from tvm_bridge import progress as progress_module
from tvm_bridge.measure.base import ErrorCategory
from tvm_bridge.progress import Progress, reporter, summary
from tvm_bridge.task import Task

TASK = Task("conv2d_nchw", [], RTX, KnobSpace([Option("only", (1,))]), flop=1e9, label="rb1-conv1")
TABLE_TASK = Task("gemm", [], RTX, KnobSpace([Option("only", (1,))]))
AUTOTVM_LINE = "[Task  1/12]  Current/Best:  541.83/3570.66 GFLOPS | Progress: (960/2000) | 1001.31 s Done."
"""As AutoTVM wrote it."""


def step(trial=960, *, current=541.83, best=3570.66, default=0.0, seconds=1001.31, errors=()):
    return Progress(
        record(),
        trial,
        2000,
        current,
        best,
        default,
        seconds,
        False,
        Counter(errors),
        {error: "it was slow" for error in errors},
    )


def lines_of(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


@pytest.fixture
def chatty(monkeypatch):
    """Every step may write a line."""
    monkeypatch.setattr(progress_module, "QUIET_SECONDS", -1.0)


def test_last_line_is_that_of_autotvm(capsys):
    with reporter(TASK, 2000, (1, 12)) as report:
        report(step())
    assert lines_of(capsys)[-1] == AUTOTVM_LINE


def test_task_without_operation_count_is_shown_in_runs(capsys):
    with reporter(TABLE_TASK, 2000, (1, 12)) as report:
        report(step())
    assert lines_of(capsys)[-1] == AUTOTVM_LINE.replace("GFLOPS", "runs/s")


@pytest.mark.usefixtures("chatty")
def test_lines_under_way_are_those_of_autotvm_too(capsys):
    with reporter(TASK, 2000, (3, 12)) as report:
        for trial in (1, 2):
            report(step(trial, current=0.0, best=99999.99, seconds=0.5))
    expected = [f"[Task  3/12]  Current/Best:    0.00/99999.99 GFLOPS | Progress: ({trial}/2000) | 0.50 s" for trial in (1, 2)]
    assert lines_of(capsys)[1:] == [*expected, f"{expected[-1]} Done."]


def test_few_lines_are_written_without_a_terminal(capsys):
    """A thousand measurements within the quiet time: one line at the start, one at the end."""
    with reporter(TASK, 2000) as report:
        for trial in range(1, 1001):
            report(step(trial))
    first, last = lines_of(capsys)
    assert "rb1-conv1" in first
    assert "2000 trials" in first
    assert last.endswith(" Done.")


def test_nothing_measured_is_not_called_done(capsys):
    with reporter(TASK, 2000):
        pass
    assert len(lines_of(capsys)) == 1


def stopped(report):
    report(step())
    raise KeyboardInterrupt


def test_what_was_stopped_is_not_called_done(capsys):
    with pytest.raises(KeyboardInterrupt), reporter(TASK, 2000) as report:
        stopped(report)
    assert not any("Done" in line for line in lines_of(capsys))


# A terminal


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with reporter(TASK, 2000, (1, 12)) as report:
        report(step(errors={ErrorCategory.RUN_TIMEOUT: 3}, default=99.5))
    shown = sys.stderr.getvalue()
    for part in ("1/12 rb1-conv1", "960/2000", "best 3571 GFLOPS", "now 541.8", "default 99.5", "3 failed", "\x1b["):
        assert part in shown


@pytest.mark.usefixtures("chatty")
def test_no_bar_without_a_terminal(capsys):
    with reporter(TASK, 2000) as report:
        report(step())
    assert all("\x1b" not in line and "\r" not in line for line in lines_of(capsys))


# Failures


def test_failures_are_summed_up_with_the_commonest_first():
    errors = Counter({ErrorCategory.WRONG_ANSWER: 1, ErrorCategory.RUN_TIMEOUT: 3})
    messages = {ErrorCategory.RUN_TIMEOUT: "stopped after 10 s"}
    assert summary(errors, messages) == "3 x RUN_TIMEOUT (stopped after 10 s); 1 x WRONG_ANSWER (no message)"
