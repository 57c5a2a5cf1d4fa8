"""Progress of long work: a bar on a terminal, AutoTVM's line elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm_bridge.measure.base import ErrorCategory

if TYPE_CHECKING:
    from tvm_bridge.records import Record
    from tvm_bridge.task import Task

QUIET_SECONDS = 10.0
"""Where there is no terminal, a line is written at most this often."""


@dataclass(frozen=True)
class Progress:
    """Where tuning stands after a measurement.

    - `record`: the measurement.
    - `trial`: its number, from 1; 0 for TVM's default schedule.
    - `trials`: the budget.
    - `current`, `best`: throughput of this candidate and of the best so far, the default left out.
    - `default`: throughput of TVM's default schedule, 0.0 if unknown.
    - `seconds`: since tuning began.
    - `reused`: whether the log held it already.
    - `errors`, `messages`: failures so far by category, and the first message of each.
    """

    record: Record
    trial: int
    trials: int
    current: float
    best: float
    default: float
    seconds: float
    reused: bool
    errors: Counter[ErrorCategory]
    messages: dict[ErrorCategory, str]


@contextmanager
def reporter(task: Task, trials: int, place: bool | tuple[int, int] = True) -> Iterator[Callable[[Progress], None]]:
    """Show progress on the standard error stream; `place` is the task's number and how many there are."""
    show = _bar if sys.stderr.isatty() else _lines
    last: Progress | None = None
    with show(task, trials, place if isinstance(place, tuple) else (1, 1)) as report:

        def remember(progress: Progress) -> None:
            nonlocal last
            last = progress
            report(progress)

        yield remember
    if last is not None and last.errors:
        print(f"Failed: {summary(last.errors, last.messages)}", file=sys.stderr, flush=True)


@contextmanager
def _bar(task: Task, trials: int, position: tuple[int, int]) -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    unit = _unit(task)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task(_title(task, position), total=trials, figures=f"best - {unit}")

        def report(progress: Progress) -> None:
            failed = f", {sum(progress.errors.values())} failed" if progress.errors else ""
            default = f", default {progress.default:.4g}" if progress.default else ""
            figures = f"best {progress.best:.4g} {unit}, now {progress.current:.4g}{default}{failed}"
            bar.update(line, completed=progress.trial, figures=figures)

        yield report


@contextmanager
def _lines(task: Task, trials: int, position: tuple[int, int]) -> Iterator[Callable[[Progress], None]]:
    last: Progress | None = None
    written = time.monotonic()

    def write(progress: Progress, end: str) -> None:
        number = f"[Task {position[0]:2d}/{position[1]:2d}]"
        figures = f"Current/Best: {progress.current:7.2f}/{progress.best:7.2f} {_unit(task)}"
        count = f"Progress: ({progress.trial}/{trials})"
        print(f"{number}  {figures} | {count} | {progress.seconds:.2f} s{end}", file=sys.stderr, flush=True)

    def report(progress: Progress) -> None:
        nonlocal last, written
        last = progress
        if time.monotonic() - written > QUIET_SECONDS:
            written = time.monotonic()
            write(progress, "")

    print(f"{_title(task, position)}, {trials} trials", file=sys.stderr, flush=True)
    yield report
    if last is not None:
        write(last, " Done.")


def _unit(task: Task) -> str:
    return "GFLOPS" if task.flop is not None else "runs/s"


def _title(task: Task, position: tuple[int, int]) -> str:
    return f"{task.name} on {task.target.kind}" if position[1] == 1 else f"{position[0]}/{position[1]} {task.name}"


def summary(errors: Counter[ErrorCategory], messages: dict[ErrorCategory, str]) -> str:
    """Failures by category with the first message of each: "3 x RUN_TIMEOUT (stopped after 10 s)"."""
    counted = (f"{count} x {error.name} ({messages.get(error) or 'no message'})" for error, count in errors.most_common())
    return "; ".join(counted)
