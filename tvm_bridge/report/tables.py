"""The report's tables: the tasks, what failed, and the latency of the whole network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm_bridge.measure.base import ErrorCategory
from tvm_bridge.network.benchmark import Latency
from tvm_bridge.records import Record
from tvm_bridge.report.data import TaskRecords, Tuning
from tvm_bridge.report.markup import Child, Markup, element
from tvm_bridge.report.numbers import column, figure, fixed, number, percent, times

MEANING = {
    ErrorCategory.INSTANTIATION: "refused before it was built",
    ErrorCategory.COMPILE_HOST: "code for the host did not compile",
    ErrorCategory.COMPILE_DEVICE: "code for the device did not compile",
    ErrorCategory.RUNTIME_DEVICE: "failed while it ran",
    ErrorCategory.WRONG_ANSWER: "computed something else",
    ErrorCategory.BUILD_TIMEOUT: "took too long to build",
    ErrorCategory.RUN_TIMEOUT: "took too long to run",
    ErrorCategory.UNKNOWN: "failed in another way",
}

LONGEST_MESSAGE = 4000
"""Characters of a message that are shown."""


def tasks(tuning: Tuning) -> Markup:
    """The per-layer table: a task in two lines, the second with its operator and, folded, its best configuration."""
    view = _View.of(tuning)
    units = list(dict.fromkeys(task.unit for task in tuning.tasks))
    heads = [
        element("th", "Task", scope="col"),
        _head("Occurs") if view.counted else None,
        _head(f"Default, {view.unit}") if view.compared else None,
        _head(f"Best, {view.unit}"),
        _head("Speed-up") if view.compared else None,
        _head(" or ".join(units)),
        _head("Share") if view.counted else None,
        _head("Measured"),
        _head("Failed"),
    ]
    return _table(element("thead", element("tr", heads)), [_task(task, view) for task in tuning.tasks], _total(tuning, view))


@dataclass(frozen=True)
class _View:
    """How the tasks are shown: the unit of their times, whether they have defaults and occur in a network, the time of all."""

    size: float
    unit: str
    decimals: int
    compared: bool
    counted: bool
    known: float
    largest: float

    @classmethod
    def of(cls, tuning: Tuning) -> _View:
        parts = [task.count * task.seconds for task in tuning.tasks if task.count and task.seconds]
        times = [seconds for task in tuning.tasks for seconds in (task.default_seconds, task.seconds) if seconds]
        compared, counted = (any(each) for each in zip(*((task.default, task.count) for task in tuning.tasks), strict=True))
        return cls(*column(times), compared, counted, sum(parts), max(parts, default=0.0))

    def time(self, seconds: float | None) -> str:
        return "–" if seconds is None else fixed(seconds / self.size, self.decimals)


def _task(task: TaskRecords, view: _View) -> Markup:
    seconds, failed = task.seconds, len(task.failures)
    part = task.count * seconds if task.count and seconds else 0.0
    cells = [
        element("td", task.label),
        _number(str(task.count)) if view.counted else None,
        _number(view.time(task.default_seconds)) if view.compared else None,
        _number(view.time(seconds)),
        _gain(task.gain) if view.compared else None,
        _number(figure(task.throughput(seconds)) if seconds else "–"),
        _number(percent(part / view.known) if part else "–", _bar(part / view.largest) if part else None)
        if view.counted
        else None,
        _number(fixed(len(task.trials), 0)),
        _number(fixed(failed, 0), kind="number bad" if failed else "number"),
    ]
    width = sum(cell is not None for cell in cells)
    details = element("tr", element("td", _details(task), colspan=width))
    return element("tbody", element("tr", cells), details, class_="task")


def _total(tuning: Tuning, view: _View) -> Markup | None:
    """The last line: the network's tasks together, where all of them are known."""
    if tuning.totals is None:
        return None
    before, after = tuning.totals
    cells = [
        element("td", "These tasks together"),
        _number(fixed(sum(task.count or 0 for task in tuning.tasks), 0)),
        _number(view.time(before)),
        _number(view.time(after)),
        _gain(before / after),
        _number(""),
        _number(percent(1.0)),
        _number(fixed(len(tuning.records), 0)),
        _number(fixed(sum(len(task.failures) for task in tuning.tasks), 0)),
    ]
    return element("tfoot", element("tr", cells))


def failures(records: Sequence[Record]) -> Markup:
    """How many failed, by category, and the first message of each."""
    groups: dict[ErrorCategory, list[Record]] = {}
    for record in records:
        groups.setdefault(record.measurement.error, []).append(record)
    most = max(map(len, groups.values()))
    rows = [
        element(
            "tr",
            element("td", MEANING[category], element("br"), element("code", category.name)),
            _number(fixed(len(group), 0), _bar(len(group) / most), kind="number bad"),
            element("td", _message(group[0].measurement.message)),
        )
        for category, group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    heads = [element("th", "What happened", scope="col"), _head("How often"), element("th", "First message", scope="col")]
    return _table(element("thead", element("tr", heads)), element("tbody", rows, class_="rows"))


def latencies(runs: Mapping[str, Latency]) -> Markup:
    """Mean, spread and percentiles of the runs of the whole network, each beside the untuned network or the first."""
    size, symbol, decimals = column(each.mean for each in runs.values())
    reference = "default" if "default" in runs else next(iter(runs))
    rows = [
        element(
            "tr",
            element("td", name),
            _number(fixed(len(each.seconds), 0)),
            _number(fixed(each.mean / size, decimals)),
            _number(fixed(each.variance**0.5 / size, decimals)),
            _number(figure(each.variance / size**2)),
            [_number(fixed(each.percentile(share) / size, decimals)) for share in (50, 90, 99)],
            _gain(None if name == reference else runs[reference].mean / each.mean),
        )
        for name, each in runs.items()
    ]
    heads = [
        "Runs",
        f"Mean, {symbol}",
        f"Std. dev., {symbol}",
        f"Variance, {symbol}²",
        "p50",
        "p90",
        "p99",
        f"Against {reference}",
    ]
    first = element("th", "Network", scope="col")
    return _table(element("thead", element("tr", first, map(_head, heads))), element("tbody", rows, class_="rows"))


def _details(task: TaskRecords) -> Markup:
    """The second line of a task: what it computes and, unfolded, its best configuration."""
    shapes = [("×".join(map(str, shape))) for shape in task.workload.shapes] if task.workload else []
    computes = (
        f"{task.key.operator} {', '.join(shapes[:2])} → {shapes[2]}" if shapes else f"{task.key.operator} {task.key.args}"
    )
    winner = task.winner
    if winner is None:
        best: Child = "Best left as TVM's default schedule." if task.default else "Nothing that works is known."
    else:
        knobs = [element("span", element("b", f"{knob} "), json.dumps(value)) for knob, value in (winner.config or {}).items()]
        place = task.trials.index(winner) + 1
        best = [
            f"Configuration {winner.index}, found by measurement {place} of {len(task.trials)}:",
            element("div", knobs, class_="config"),
        ]
    return element("details", element("summary", computes), best)


def _message(message: str) -> Markup:
    text = message.strip() or "none"
    shown = text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}… ({number(len(text), 'character')})"
    first, *rest = shown.splitlines()
    if not rest and len(first) <= 200:
        return element("span", first, class_="message")
    return element(
        "details", element("summary", f"{first[:160]} …", class_="message"), element("code", shown, class_="message")
    )


def _table(*parts: Child) -> Markup:
    """A table that can be scrolled where the page is too narrow, by keyboard too."""
    return element("div", element("table", parts), class_="wide", tabindex="0")


def _head(name: str) -> Markup:
    return element("th", name, scope="col", class_="number")


def _number(text: str, bar: Markup | None = None, *, kind: str = "number") -> Markup:
    return element("td", bar, text, class_=kind)


def _gain(ratio: float | None) -> Markup:
    kind = "number gain" if ratio and ratio > 1 else "number"
    return _number(times(ratio) if ratio else "–", kind=kind)


def _bar(share: float) -> Markup:
    return element("span", class_="bar", style=f"width:{4 * share:.2f}rem")
