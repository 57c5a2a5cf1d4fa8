"""The report's figures: curves of a search, times before and after, runs of a network, its time while tuned, time spent."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from tvm_bridge.network.benchmark import Latency
from tvm_bridge.network.folder import Round
from tvm_bridge.report.data import TaskRecords
from tvm_bridge.report.markup import Child, Markup, element
from tvm_bridge.report.numbers import duration, figure, fixed, latency, number, times, unit
from tvm_bridge.report.svg import box, chart, decades, line, linear, logarithmic, path, shortened, ticks, words

WIDE = 880.0
"""Width of a chart that has a row of the page for itself."""

LONGEST_NAME = 38
"""Characters of a row's name that are shown."""

LINEAR = 8.0
"""The largest ratio of times that an axis from 0 shows well."""


def curve(task: TaskRecords, *, width: float = 290, height: float = 170) -> Markup:
    """The best throughput so far over the measurements: each of them a dot, a failure a tick, the default a line."""
    values = [task.throughput(record.measurement.cost) for record in task.trials]
    best = list(accumulate(values, max))
    default = task.throughput(task.default.cost) if task.default else 0.0
    grid = ticks(max([default, *best]) or 1.0)
    left, right, top, bottom = 40.0, width - 42, 18.0, height - 30
    x, y = linear(0, max(1, len(values)), left, right), linear(0, grid[-1], bottom, top)
    steps = [(trial, value) for trial, value in enumerate(best, 1) if value > (best[trial - 2] if trial > 1 else 0.0)]
    points = [(round(x(trial), 1), round(y(value), 1), f"after {trial}: {figure(value)} {task.unit}") for trial, value in steps]
    outline = [f"H{px}V{py}" if place else f"M{px},{py}" for place, (px, py, _) in enumerate(points)]
    outline += [f"H{right:.1f}"] if points else []
    parts: list[Child] = [
        [
            [line(left, y(value), right, y(value), "grid"), words(left - 6, y(value) + 4, figure(value, 2), anchor="end")]
            for value in grid
        ],
        words(left, 9, task.unit),
        path([f"M{x(trial):.1f},{y(value):.1f}h0" for trial, value in enumerate(values, 1) if value], "dots"),
        path([f"M{x(trial):.1f},{bottom + 3:.1f}v6" for trial, value in enumerate(values, 1) if not value], "failed"),
        path([*outline, f"V{bottom:.1f}H{points[0][0]}Z"] if points else [], "area"),
        path(outline, "best"),
        words(left, height - 6, "0", anchor="middle"),
        words(right, height - 6, fixed(len(values), 0), anchor="middle"),
        words((left + right) / 2, height - 6, "measurements", "readout", anchor="middle"),
    ]
    if default:
        height_of_name = y(default) - 5 if y(default) - 5 > top + 8 else y(default) + 13
        parts += [
            line(left, y(default), right, y(default), "default"),
            words(left + 4, height_of_name, f"default {figure(default)}", "halo"),
        ]
    if points:
        parts.append(words(right + 7, points[-1][1] + 4, figure(steps[-1][1]), "after strong"))
    found = f"best {figure(best[-1])} {task.unit} of {number(len(values), 'measurement')}" if points else "nothing that works"
    description = f"{task.label}: {found}; {f'default {figure(default)}' if default else 'no default'}"
    return chart(width, height, description, parts, kind="curve", data_points=json.dumps(points))


def before_and_after(tasks: Sequence[TaskRecords]) -> Markup:
    """A row for every task: its time by default and tuned on a logarithmic axis, and how many times faster that is."""
    pairs = [(task, task.default_seconds, task.seconds) for task in tasks if task.default_seconds and task.seconds]
    least, most = min(after for *_, after in pairs) / 1.6, max(before for _, before, _ in pairs) * 1.6
    names = _width(task.label for task, *_ in pairs)
    x = logarithmic(least, most, names + 10, WIDE - 70)
    top, row = 22.0, 24.0
    bottom = top + row * len(pairs)
    parts: list[Child] = [
        [line(x(value), top - 6, x(value), bottom, "grid"), words(x(value), 11, latency(value, 1), anchor="middle")]
        for value in decades(least, most)
    ]
    for place, (task, before, after) in enumerate(pairs):
        middle = top + row * (place + 0.5)
        kind = "after" if after < before else "before"
        parts.append(
            element(
                "g",
                element("title", f"{task.label}: {latency(before)} → {latency(after)}"),
                words(names, middle + 4, shortened(task.label, LONGEST_NAME), "name", anchor="end"),
                line(x(before), middle, x(after), middle, "link"),
                element("circle", cx=f"{x(before):.1f}", cy=f"{middle:.1f}", r="4", class_="before"),
                element("circle", cx=f"{x(after):.1f}", cy=f"{middle:.1f}", r="5", class_=kind),
                words(WIDE, middle + 4, times(before / after), f"strong {kind}", anchor="end"),
            )
        )
    return chart(WIDE, bottom + 4, "Time of each task by default and tuned", parts, kind="gains")


def histogram(name: str, runs: Latency, *, kind: str, width: float = 420, height: float = 150, bins: int = 48) -> Markup:
    """How long the runs of a network took, with percentiles; the slowest hundredth may lie beyond the right end."""
    seconds = runs.seconds.tolist()
    least, most = min(seconds), runs.percentile(99)
    margin = (most - least) * 0.12 or least * 0.01
    start, end = least - margin / 2, most + margin
    counts = [0] * bins
    for second in seconds:
        counts[min(bins - 1, int(linear(start, end, 0, bins)(second)))] += second <= end
    beyond = sum(second > end for second in seconds)
    left, right, top, bottom = 12.0, width - 12, 44.0, height - 20
    x, y = linear(start, end, left, right), linear(0, max(counts), 0, bottom - top)
    size, symbol = unit(runs.mean)
    step = (right - left) / bins
    parts: list[Child] = [
        [box(left + place * step, bottom - y(count), step - 1, y(count), kind) for place, count in enumerate(counts) if count],
        line(left, bottom, right, bottom, "axis"),
    ]
    for place, share in enumerate((99, 90, 50)):
        at = x(runs.percentile(share))
        name_beside, shift = ("end", -4) if at > width * 0.75 else ("start", 4)
        parts.append(line(at, 4 + 13 * place, at, bottom, "mark"))
        parts.append(
            words(at + shift, 13 + 13 * place, f"p{share}  {latency(runs.percentile(share))}", "halo", anchor=name_beside)
        )
    digits = 4 if end - start < least / 10 else 3
    parts += [
        words(left, height - 5, f"{figure(least / size, digits)} {symbol}"),
        words(right, height - 5, f"{figure(most / size, digits)} {symbol}", anchor="end"),
    ]
    if beyond:
        parts.append(
            words(width / 2, height - 5, f"{number(beyond, 'slower run')}, up to {latency(max(seconds))}", anchor="middle")
        )
    description = f"{name}: {number(len(runs.seconds), 'run')}, median {latency(runs.percentile(50))}"
    return chart(width, height, description, parts, kind="histogram")


def progress(rounds: Sequence[Round], *, height: float = 200) -> Markup | None:
    """The network's time, as the sum of its tasks' best, against the time spent tuning; None where it is not known twice.

    Where it shrank more than `LINEAR` times, its axis is logarithmic.
    """
    moments = accumulate(each.seconds_searching + each.seconds_measuring for each in rounds)
    known = [
        (moment, each.network_seconds)
        for moment, each in zip(moments, rounds, strict=True)
        if math.isfinite(each.network_seconds)
    ]
    if len(known) < 2:
        return None
    least, most = (pick(seconds for _, seconds in known) for pick in (min, max))
    left, right, top, bottom = 54.0, WIDE - 70, 18.0, height - 24
    if most > LINEAR * least:
        y, grid = logarithmic(least / 1.6, most, bottom, top), decades(least / 1.6, most)
    else:
        size, _ = unit(most)
        grid = [size * value for value in ticks(most / size)]
        y = linear(0, grid[-1], bottom, top)
    x = linear(0, known[-1][0] or 1.0, left, right)
    outline = [
        f"H{x(moment):.1f}V{y(seconds):.1f}" if place else f"M{x(moment):.1f},{y(seconds):.1f}"
        for place, (moment, seconds) in enumerate(known)
    ]
    parts: list[Child] = [
        [
            [
                line(left, y(value), right, y(value), "grid"),
                words(left - 6, y(value) + 4, latency(value, 2 if 0 in grid else 1) if value else "0", anchor="end"),
            ]
            for value in grid
        ],
        words(left, 9, "" if 0 in grid else "logarithmic"),
        path([*outline, f"V{bottom:.1f}H{x(known[0][0]):.1f}Z"], "area"),
        path(outline, "best"),
        words(left, height - 6, "0", anchor="middle"),
        words(right, height - 6, duration(known[-1][0]), anchor="middle"),
        words((left + right) / 2, height - 6, "time spent tuning", anchor="middle"),
        words(right + 5, y(known[-1][1]) + 4, latency(known[-1][1]), "after strong"),
    ]
    description = f"Time of the network while tuned: {latency(known[0][1])} to {latency(known[-1][1])}"
    return chart(WIDE, height, description, parts, kind="progress")


def spent(rows: Mapping[str, tuple[float, float]], kinds: tuple[str, str]) -> Markup:
    """A bar for every task of the seconds spent on it, in two parts."""
    names = _width(rows)
    x = linear(0, max(map(sum, rows.values())) or 1.0, 0, WIDE - names - 100)
    row = 22.0
    parts = [
        element(
            "g",
            element("title", f"{label}: {duration(first)} {kinds[0]}, {duration(second)} {kinds[1]}"),
            words(names, row * place + 15, shortened(label, LONGEST_NAME), "name", anchor="end"),
            box(names + 10, row * place + 4, x(first), row - 8, "first"),
            box(names + 10 + x(first), row * place + 4, x(second), row - 8, "second"),
            words(names + 18 + x(first + second), row * place + 15, duration(first + second)),
        )
        for place, (label, (first, second)) in enumerate(rows.items())
    ]
    return chart(WIDE, row * len(rows), f"Time spent {kinds[0]} and {kinds[1]}, task by task", parts, kind="spent")


def _width(names: Iterable[str]) -> float:
    """Room for the names of the rows of a chart, by the usual width of a letter."""
    return 7.2 * min(LONGEST_NAME, max(map(len, names)))
