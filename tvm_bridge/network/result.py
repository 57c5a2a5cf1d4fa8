"""What tuning a network found, and its table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm_bridge.session import TuneResult
from tvm_bridge.task import Task


@dataclass(frozen=True)
class TunedTask:
    """A task of the network and what was found for it.

    - `task`, `count`, `functions`: as in `NetworkTask`.
    - `result`: what `tune` returns; None if nothing works, not even TVM's default schedule.
    - `failure`: why there is no result.
    """

    task: Task
    count: int
    functions: tuple[str, ...]
    result: TuneResult | None
    failure: str = ""

    @property
    def seconds(self) -> float:
        """The best time of one run, at worst that of TVM's default schedule; infinite if nothing works."""
        return math.inf if self.result is None else self.result.best.seconds

    @property
    def default_seconds(self) -> float:
        """The time of TVM's default schedule; infinite if that is unknown."""
        return math.inf if self.result is None or self.result.default is None else self.result.default.seconds


@dataclass(frozen=True)
class NetworkResult:
    """What tuning a network found.

    - `network`: its name.
    - `tasks`: what was tuned, in the order of the network.
    - `uncovered`: the functions that no template covers and how often each is called; no search is for them.
    - `seconds_searching`, `seconds_measuring`: time spent choosing and measuring, by this call.
    - `stopped`: "trials", "exhausted", "early stopping" or "time limit".
    """

    network: str
    tasks: tuple[TunedTask, ...]
    uncovered: dict[str, int]
    seconds_searching: float
    seconds_measuring: float
    stopped: str

    @property
    def seconds(self) -> float:
        """What the tuned part is predicted to take: the sum over the network's tasks; infinite if that of one is unknown."""
        return sum(each.count * each.seconds for each in self.tasks)

    @property
    def default_seconds(self) -> float:
        """What that part is predicted to take under TVM's default schedules; infinite if that of one is unknown."""
        return sum(each.count * each.default_seconds for each in self.tasks)

    def table(self) -> str:
        """A line for each task: how often it occurs, its default and best time, its speed, its share of all tasks' time."""
        known = sum(each.count * each.seconds for each in self.tasks if each.result is not None)
        rows = [("task", "times", "default us", "best us", "GFLOPS", "share")]
        for each in self.tasks:
            speed = "-" if each.result is None or each.task.flop is None else f"{each.result.best.gflops:.1f}"
            share = "-" if each.result is None else f"{each.count * each.seconds / known:.1%}"
            rows.append(
                (each.task.name, str(each.count), microseconds(each.default_seconds), microseconds(each.seconds), speed, share)
            )
        rows.append(("all", "", microseconds(self.default_seconds), microseconds(self.seconds), "", ""))
        return _aligned(rows)

    def __str__(self) -> str:
        gain = f", {self.default_seconds / self.seconds:.1f} times faster" if self.default_seconds < math.inf else ""
        lines = [f"{self.network}: {len(self.tasks)} tasks{gain}, ended by {self.stopped}", self.table()]
        lines += [each.failure for each in self.tasks if each.failure]
        if self.uncovered:
            calls = ", ".join(f"{name} ({count})" for name, count in self.uncovered.items())
            lines.append(f"Not tuned, as no template covers them: {calls}")
        return "\n".join(lines)


def microseconds(seconds: float) -> str:
    """A time as a table shows it; "-" if it is unknown."""
    return "-" if seconds == math.inf else f"{seconds * 1e6:.1f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns under their heads: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
