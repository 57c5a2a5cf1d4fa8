"""Progress of long work: a bar on a terminal, AutoTVM's line elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

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
    """Show a task's progress on the standard error stream; `place` is the task's number and how many there are."""
    position = place if isinstance(place, tuple) else (1, 1)
    unit = "GFLOPS" if task.flop is not None else "runs/s"
    title = f"{task.name} on {task.target.kind}" if position[1] == 1 else f"{position[0]}/{position[1]} {task.name}"
    last: Progress | None = None
    with display(title, trials) as show:

        def report(progress: Progress) -> None:
            nonlocal last
            last = progress
            failed = f", {sum(progress.errors.values())} failed" if progress.errors else ""
            default = f", default {progress.default:.4g}" if progress.default else ""
            number = f"[Task {position[0]:2d}/{position[1]:2d}]"
            speeds = f"Current/Best: {progress.current:7.2f}/{progress.best:7.2f} {unit}"
            show(
                progress.trial,
                f"best {progress.best:.4g} {unit}, now {progress.current:.4g}{default}{failed}",
                f"{number}  {speeds} | Progress: ({progress.trial}/{trials}) | {progress.seconds:.2f} s",
            )

        yield report
    if last is not None:
        tell_failures(last.errors, last.messages)


Show: TypeAlias = Callable[[int, str, str], None]
"""Takes the trials so far, the figures to stand beside a bar, and the line to stand for both."""


@contextmanager
def display(title: str, trials: int) -> Iterator[Show]:
    """Show on the standard error stream how far work has come: a bar on a terminal, now and then a line elsewhere."""
    with (_bar if sys.stderr.isatty() else _lines)(title, trials) as show:
        yield show


@contextmanager
def _bar(title: str, trials: int) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        row = bar.add_task(title, total=trials, figures="")
        yield lambda trial, figures, _: bar.update(row, completed=trial, figures=figures)


@contextmanager
def _lines(title: str, trials: int) -> Iterator[Show]:
    last = ""
    written = time.monotonic()

    def show(_trial: int, _figures: str, line: str) -> None:
        nonlocal last, written
        last = line
        if time.monotonic() - written > QUIET_SECONDS:
            written = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    print(f"{title}, {trials} trials", file=sys.stderr, flush=True)
    yield show
    if last:
        print(f"{last} Done.", file=sys.stderr, flush=True)


def tell_failures(errors: Counter[ErrorCategory], messages: dict[ErrorCategory, str]) -> None:
    """Print how many failed and why on the standard error stream, if any did."""
    if errors:
        print(f"Failed: {summary(errors, messages)}", file=sys.stderr, flush=True)


def summary(errors: Counter[ErrorCategory], messages: dict[ErrorCategory, str]) -> str:
    """Failures by category with the first message of each: "3 x RUN_TIMEOUT (stopped after 10 s)"."""
    counted = (f"{count} x {error.name} ({messages.get(error) or 'no message'})" for error, count in errors.most_common())
    return "; ".join(counted)
