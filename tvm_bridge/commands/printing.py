"""What a command prints of a tuned task."""

from __future__ import annotations

import json

from tvm_bridge.session import Candidate, TuneResult
from tvm_bridge.task import Task


def print_result(task: Task, result: TuneResult) -> None:
    """Print the best configuration of a task beside TVM's default schedule, and what finding it took."""
    best, default = result.best, result.default
    print(f"{task.name}: {_speed(task, best)}")
    if default is not None:
        print(f"  TVM's default schedule: {_speed(task, default)}, {default.seconds / best.seconds:.1f} times slower")
    print(
        f"  configuration {best.index}: {json.dumps(best.config)}" if best.config else "  best left as TVM's default schedule"
    )
    measured = len(result.records) - (default is not None)
    errors = ", ".join(f"{count} {error.name}" for error, count in result.errors.items()) or "none failed"
    print(
        f"  {measured} measured ({errors}), {result.seconds_searching:.1f} s searching, {result.seconds_measuring:.1f} s "
        f"measuring, ended by {result.stopped}"
    )


def _speed(task: Task, candidate: Candidate) -> str:
    unit = "GFLOPS" if task.flop is not None else "runs/s"
    return f"{candidate.gflops:.1f} {unit}, {candidate.seconds * 1e6:.1f} us"
