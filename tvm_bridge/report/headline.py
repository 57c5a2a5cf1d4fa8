"""The first words of the report: what was gained, in a sentence, with the times behind it."""

from __future__ import annotations

import math

from tvm_bridge.network.benchmark import Latency
from tvm_bridge.report.data import TaskRecords, Tuning
from tvm_bridge.report.numbers import figure, fixed, latency, number, spread

NOTICEABLE = 0.01
"""A change of latency below this share is none."""


def headline(tuning: Tuning) -> tuple[str, str]:
    """A title and the sentence below it: of the whole network if it was timed, else of its kernels or single tasks."""
    name = tuning.network or (tuning.tasks[0].label if len(tuning.tasks) == 1 else number(len(tuning.tasks), "task"))
    before, after = tuning.latencies.get("default"), tuning.latencies.get("tuned")
    if before and after:
        return _verdict(name, before.mean / after.mean), _runs(before, after)
    if tuning.totals:
        total, tuned = tuning.totals
        title = _verdict(f"The tuned operators of {name}", total / tuned, "are")
        return title, f"{latency(total)} → {latency(tuned)}, each task as often as it occurs; the whole network was not timed."
    if not any(task.seconds for task in tuning.tasks):
        return "Nothing that was tried works", f"{name}: {number(len(tuning.records), 'measurement')}, all failed."
    return _task(tuning.tasks[0]) if len(tuning.tasks) == 1 else _several(tuning, name)


def _runs(before: Latency, after: Latency) -> str:
    slow, fast = (spread(runs.mean, runs.variance**0.5) for runs in (before, after))
    counted = " and ".join(dict.fromkeys(fixed(len(runs.seconds), 0) for runs in (before, after)))
    return f"{slow} by default → {fast} tuned, mean ± standard deviation of {counted} inferences."


def _several(tuning: Tuning, name: str) -> tuple[str, str]:
    gains = [task.gain for task in tuning.tasks if task.gain]
    if not gains:
        reached = [task.throughput(task.seconds) for task in tuning.tasks if task.seconds]
        units = " or ".join(dict.fromkeys(task.unit for task in tuning.tasks))
        best = f"{name} at {figure(min(reached))} to {figure(max(reached))} {units}"
        return best, "TVM's default schedule was not measured, so there is nothing to compare with."
    mean = math.exp(math.fsum(map(math.log, gains)) / len(gains))
    compared = f" of the {len(gains)} tasks that have one" if len(gains) < len(tuning.tasks) else ""
    extent = f"from {figure(min(gains))} to {figure(max(gains))} times"
    return _verdict(name, mean, "are"), f"Geometric mean against TVM's default schedule{compared}, {extent}."


def _task(task: TaskRecords) -> tuple[str, str]:
    assert task.seconds is not None
    reached = f"{figure(task.throughput(task.seconds))} {task.unit}, found in {number(len(task.trials), 'measurement')}"
    if task.gain and task.default_seconds:
        change = f"{latency(task.default_seconds)} by TVM's default schedule → {latency(task.seconds)}"
        return _verdict(task.label, task.gain), f"{change}: {reached}."
    return f"{task.label} takes {latency(task.seconds)}", f"{reached}; TVM's default schedule was not measured."


def _verdict(name: str, ratio: float, verb: str = "is") -> str:
    if ratio < 1 - NOTICEABLE:
        return f"{name} {verb} slower tuned: keep the default"
    if ratio < 1 + NOTICEABLE:
        return f"{name} {verb} as fast as before: tuning found nothing better"
    return f"{name} {verb} {figure(ratio)} times as fast"
