"""The table of a tuned network: every task has its line, the shares add up, and what is unknown is not invented."""

import math
import re

from tests.tvm_bridge.network.pretended import COUNTS, extraction
from tvm_bridge.network.result import NetworkResult, TunedTask
from tvm_bridge.session import Candidate, TuneResult


def tuned(times, **changes):
    """A result with `{label: (default, best) seconds}`; None for the default if it failed, for both if nothing works."""
    tasks = []
    for each in extraction(labels=tuple(times)).tasks:
        default, best = times[each.task.label] or (None, None)
        found = None
        if best is not None:
            as_candidate = [second and Candidate(None, -1, second, each.task.gflops(second)) for second in (best, default)]
            found = TuneResult(*as_candidate, (), {}, 0.0, 0.0, "trials")
        tasks.append(
            TunedTask(each.task, each.count, each.functions, found, "" if found else f"{each.task.label}: all failed.")
        )
    return NetworkResult(**({"network": "small", "tasks": tuple(tasks), "uncovered": {}} | SPENT | changes))


SPENT = {"seconds_searching": 1.0, "seconds_measuring": 2.0, "stopped": "trials"}


def test_every_task_has_its_line():
    result = tuned({"conv2d_relu": (3e-3, 1e-4), "conv2d_add": (1e-3, 2e-4), "dense": (5e-4, 5e-4)})
    head, *rows, total = [re.split(r"  +", line) for line in result.table().splitlines()]
    assert head == ["task", "times", "default us", "best us", "GFLOPS", "share"]
    assert [row[0] for row in rows] == list(COUNTS)
    relu, add, dense = rows
    assert relu[1:4] == ["3", "3000.0", "100.0"]
    assert add[1:4] == ["1", "1000.0", "200.0"]
    assert dense[3:] == ["500.0", f"{2 * 64 * 48 / 5e-4 / 1e9:.1f}", "50.0%"]
    assert sum(float(row[-1].rstrip("%")) for row in rows) == 100
    assert total == ["all", "10500.0", "1000.0"]
    assert "10.5 times faster, ended by trials" in str(result)


def test_columns_stand_under_their_heads():
    lines = tuned({"conv2d_relu": (3e-3, 1e-4), "dense": (50.0, 5e-4)}).table().splitlines()
    assert len({len(line) for line in lines[:-1]}) == 1


def test_what_is_unknown_is_not_invented():
    result = tuned({"conv2d_relu": (None, 1e-4), "conv2d_add": None}, uncovered={"softmax": 2})
    relu, add, total = [re.split(r"  +", line) for line in result.table().splitlines()[1:]]
    assert relu[2] == "-"
    assert relu[-1] == "100.0%"
    assert add[1:] == ["1", "-", "-", "-", "-"]
    assert total[1:] == ["-", "-"]
    assert result.seconds == result.default_seconds == math.inf
    text = str(result)
    assert "faster" not in text
    assert "conv2d_add: all failed." in text
    assert "softmax (2)" in text


def test_nothing_works_at_all():
    assert tuned({"dense": None}).table().splitlines()[1].split() == ["dense", "1", "-", "-", "-", "-"]
