"""Progress of a network: one bar or one line for all its tasks, failures summed up at the end."""

import sys

import pytest

from tests.tvm_bridge.network.pretended import Pretended, extraction
from tests.tvm_bridge.test_progress import Terminal
from tvm_bridge import progress as lines_of_one
from tvm_bridge.network.progress import predicted, reporter
from tvm_bridge.session import Session

TASKS = extraction().tasks


@pytest.fixture
def sessions():
    """The tasks' measurements after those of their default schedules, and two of the first task's configurations."""
    measurer = Pretended(broken=["dense"])
    sessions = [Session(each.task, measurer, None, 9) for each in TASKS]
    for each in sessions:
        each.measure_default()
    for each in (sessions[0], sessions[2]):
        assert len(list(each.measure(each.task.space.from_index([0, 1])))) == 2
    return sessions


def test_network_takes_what_its_tasks_take(sessions):
    default, best = predicted(TASKS, sessions)
    assert default == pytest.approx(5 * 2e-2)
    assert best == pytest.approx(3 * 1e-3 + 2 * 2e-2)


def test_lines_name_the_task_and_the_network(sessions, capsys, monkeypatch):
    monkeypatch.setattr(lines_of_one, "QUIET_SECONDS", -1.0)
    with reporter("small", TASKS, sessions, 9) as report:
        report(1, None)
    first, line, last, failed = capsys.readouterr().err.splitlines()
    assert first == "small, 3 tasks on llvm, 9 trials"
    assert line.startswith("[Task  2/ 3]  Default/Best:  100.000/  43.000 ms | Progress: (4/9) | ")
    assert last == f"{line} Done."
    assert failed == "Failed: 2 x RUN_TIMEOUT (stopped after 10 s)"


def test_terminal_gets_a_bar(sessions, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with reporter("small", TASKS, sessions, 9) as report:
        report(1, None)
    shown = sys.stderr.getvalue()
    for part in ("small, 3 tasks on llvm", "4/9", "43.000 ms, default 100.000, 2 failed; conv2d_add", "\x1b["):
        assert part in shown
