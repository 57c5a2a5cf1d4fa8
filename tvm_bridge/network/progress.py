"""Progress of a network's tuning: one display for all its tasks."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tvm_bridge.measure.base import ErrorCategory
from tvm_bridge.network.extract import NetworkTask
from tvm_bridge.progress import Progress, display, tell_failures
from tvm_bridge.session import Session


@contextmanager
def reporter(
    name: str, tasks: Sequence[NetworkTask], sessions: Sequence[Session], trials: int
) -> Iterator[Callable[[int, Progress], None]]:
    """Show progress on the standard error stream; takes a task's number, and its progress, after each of its measurements."""
    began = time.perf_counter()
    target = tasks[0].task.target.kind

    with display(f"{name}, {len(tasks)} tasks on {target}", trials) as show:

        def report(number: int, _: Progress) -> None:
            spent = sum(session.tried for session in sessions)
            default, best = (_milliseconds(seconds) for seconds in predicted(tasks, sessions))
            failed = sum(sum(session.errors.values()) for session in sessions)
            failures = f", {failed} failed" if failed else ""
            show(
                spent,
                f"{best} ms, default {default}{failures}; {tasks[number].task.name}",
                f"[Task {number + 1:2d}/{len(tasks):2d}]  Default/Best: {default:>8}/{best:>8} ms | "
                f"Progress: ({spent}/{trials}) | {time.perf_counter() - began:.2f} s",
            )

        yield report
    errors: Counter[ErrorCategory] = Counter()
    messages: dict[ErrorCategory, str] = {}
    for session in sessions:
        errors += session.errors
        messages = session.messages | messages
    tell_failures(errors, messages)


def predicted(tasks: Sequence[NetworkTask], sessions: Sequence[Session]) -> tuple[float, float]:
    """Seconds of the network's tuned part under TVM's default schedules and under the best so far; infinite if unknown."""
    pairs = list(zip(tasks, sessions, strict=True))
    return (
        sum(each.count * session.default_seconds for each, session in pairs),
        sum(each.count * session.best_seconds for each, session in pairs),
    )


def _milliseconds(seconds: float) -> str:
    return "-" if seconds == math.inf else f"{seconds * 1e3:.3f}"
