"""The page: its sections in order, each a function of the tuning; one that has nothing to say is left out."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.resources
import math
import re

from tvm_bridge.report import charts
from tvm_bridge.report.commands import commands
from tvm_bridge.report.data import Tuning
from tvm_bridge.report.headline import headline
from tvm_bridge.report.markup import Child, Markup, element
from tvm_bridge.report.numbers import date, duration, fixed, number, percent, times
from tvm_bridge.report.tables import failures, latencies, tasks

MOST_ROWS = 60
"""Rows that a chart has at most; the table has them all."""

MOST_NOTES = 8
"""Notes on what could not be read that are shown."""


def page(tuning: Tuning) -> str:
    """The whole report as one HTML document that needs nothing else.

    Its policy lets no script run but its own and nothing be fetched, whatever a log holds.
    """
    script, style = _resource("script.js"), _resource("style.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    title, _ = headline(tuning)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"gausstune {importlib.metadata.version('gausstune')}"),
        element("title", title),
        element("style", Markup(style)),
    )
    sections = (_latency, _gains, _search, _tasks, _failures, _time, _settings, _again)
    body = element("body", _header(tuning), (section(tuning) for section in sections), element("script", Markup(script)))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _header(tuning: Tuning) -> Markup:
    title, lead = headline(tuning)
    parts = [
        element("div", f"gausstune · {tuning.source}", class_="eyebrow"),
        element("h1", _words(title)),
        element("p", lead, class_="lead"),
    ]
    return element("header", parts, _figures(tuning), _notes(tuning.notes))


def _figures(tuning: Tuning) -> Markup:
    """The few figures that matter, large; one that is not known is left out."""
    measured, failed = len(tuning.records), sum(len(task.failures) for task in tuning.tasks)
    searching, measuring = _seconds(tuning)
    targets = [element("div", _words(str(target))) for target in tuning.targets]
    spent = _figure("Building and running", duration(measuring), "all candidates together") if measuring else None
    if tuning.rounds:
        spent = _figure("Time spent", duration(searching + measuring), f"{duration(searching)} of it searching")
    if tuning.devices:
        where = _figure("Measured on", ", ".join(tuning.devices), targets, kind="words")
    else:
        where = _figure("Compiled for", targets, None, kind="words")
    share = f"{percent(failed / measured)} failed" if failed else "none failed"
    return element("dl", _gained(tuning), _figure("Measurements", fixed(measured, 0), share), spent, where, class_="figures")


def _gained(tuning: Tuning) -> Markup:
    compared = [task for task in tuning.tasks if task.default is not None]
    if not compared:
        return _figure("Tasks", str(len(tuning.tasks)), "without a default to compare with")
    if len(tuning.tasks) == 1:
        return _figure("Speed-up", times(compared[0].gain or 1.0), "against TVM's default schedule")
    improved = sum(task.winner is not None for task in compared)
    return _figure("Tasks faster than by default", f"{improved} of {len(compared)}", "against TVM's default schedule")


def _figure(name: str, value: Child, more: Child, *, kind: str = "value") -> Markup:
    return element("div", element("dt", name), element("dd", value, class_=kind), element("dd", more) if more else None)


def _words(text: str) -> list[Child]:
    """A text that is torn apart between words only, not at hyphens."""
    return [element("span", part, class_="word") if "-" in part else part for part in re.split(r"(\s+)", text)]


def _notes(notes: tuple[str, ...]) -> Markup | None:
    if not notes:
        return None
    shown = [element("li", note) for note in notes[:MOST_NOTES]]
    more = element("li", f"and {len(notes) - MOST_NOTES} more") if len(notes) > MOST_NOTES else None
    return element("div", "Not all could be read:", element("ul", shown, more), class_="notes")


def _latency(tuning: Tuning) -> Markup | None:
    if not tuning.latencies:
        return None
    plots = (
        element(
            "figure",
            element("figcaption", name),
            charts.histogram(name, runs, kind="before" if name == "default" else "after"),
        )
        for name, runs in tuning.latencies.items()
    )
    explanation = (
        "How long one inference takes, run after run. Every distribution has an axis of its own; the table compares them."
    )
    return _section(
        "Latency of the whole network", explanation, element("div", plots, class_="pair"), latencies(tuning.latencies)
    )


def _gains(tuning: Tuning) -> Markup | None:
    compared = [task for task in tuning.tasks if task.gain]
    if len(compared) < 2:
        return None
    shown = sorted(compared, key=lambda task: -(task.gain or 0.0))[:MOST_ROWS]
    explanation = [
        "Time of one run of each task, on a logarithmic axis:",
        _key("before", "TVM's default schedule"),
        _key("after", "the best that was found."),
    ]
    return _section("Before and after, task by task", explanation, _wide(charts.before_and_after(shown)))


def _search(tuning: Tuning) -> Markup | None:
    tried = [task for task in tuning.tasks if task.trials]
    if not tried:
        return None
    explanation = [
        "The best so far as measurements went on. Each dot is a configuration",
        ", the dashed line TVM's default schedule" if any(task.default for task in tried) else None,
        [",", _key("failed", "a tick below the axis one that failed")] if any(task.failures for task in tried) else None,
        "." if len(tried) == 1 else ". Every task has axes of its own.",
    ]
    if len(tried) == 1:
        return _section("The search", explanation, _wide(charts.curve(tried[0], width=charts.WIDE, height=300)))
    curves = (
        element(
            "figure",
            element(
                "figcaption",
                element("span", task.label),
                element("span", times(task.gain), class_="gain") if task.gain else None,
            ),
            charts.curve(task),
        )
        for task in tried
    )
    return _section("The search, task by task", explanation, element("div", curves, class_="many"))


def _tasks(tuning: Tuning) -> Markup:
    explanation = "Times are medians of one run. Unfold a task for its best configuration."
    uncovered = None
    if tuning.uncovered:
        named = ", ".join(f"{name} ×{count}" for name, count in tuning.uncovered.items())
        uncovered = element("p", f"Not tuned, as no template covers them: {named}.")
    return _section("Tasks" if len(tuning.tasks) > 1 else "The task", explanation, tasks(tuning), uncovered)


def _failures(tuning: Tuning) -> Markup | None:
    failed = [record for task in tuning.tasks for record in task.failures]
    defaults = [task.failed_default for task in tuning.tasks if task.failed_default]
    if not failed + defaults:
        return None
    told = [f"{number(len(failed), 'configuration')} of {fixed(len(tuning.records), 0)} did not work."] if failed else []
    told += [f"TVM's default schedule of {number(len(defaults), 'task')} did not work."] if defaults else []
    return _section("What failed", " ".join(told), failures([*failed, *defaults]))


def _time(tuning: Tuning) -> Markup | None:
    searching, measuring = _seconds(tuning)
    if not searching + measuring:
        return None
    rows: dict[str, tuple[float, float]] = {}
    if tuning.rounds:
        kinds = ("searching", "measuring")
        for each in tuning.rounds:
            before = rows.get(each.task, (0.0, 0.0))
            rows[each.task] = before[0] + each.seconds_searching, before[1] + each.seconds_measuring
        first = math.fsum(record.measurement.all_cost for task in tuning.tasks for record in task.defaults)
        defaults = f"{duration(first)} on TVM's default schedules, then " if first else ""
        explained = f"{defaults}{duration(searching)} choosing what to measure, {duration(measuring)} measuring it"
    else:
        kinds = ("on candidates that worked", "on those that failed")
        for task in tuning.tasks:
            lost = math.fsum(record.measurement.all_cost for record in task.failures)
            rows[task.label] = math.fsum(record.measurement.all_cost for record in task.trials) - lost, lost
        explained = (
            "Building and running each task's candidates, added up. A log does not say how long the search took to choose them"
        )
    parts = zip(("after", "second"), kinds, map(sum, zip(*rows.values(), strict=True)), strict=True)
    chart = charts.progress(tuning.rounds)
    caption = element("figcaption", "The network's tasks, each at its best so far and as often as it occurs")
    progress = element("figure", caption, _wide(chart), class_="spaced") if chart else None
    largest = dict(sorted(rows.items(), key=lambda row: -sum(row[1]))[:MOST_ROWS])
    return _section(
        "How the time was spent",
        [explained, ":", [_key(kind, name) for kind, name, total in parts if total], "."],
        progress,
        _wide(charts.spent(largest, kinds)),
    )


def _seconds(tuning: Tuning) -> tuple[float, float]:
    """Seconds spent searching and measuring; of a log alone, 0 and what building and running its candidates took."""
    if tuning.rounds:
        return math.fsum(each.seconds_searching for each in tuning.rounds), math.fsum(
            each.seconds_measuring for each in tuning.rounds
        )
    return 0.0, math.fsum(record.measurement.all_cost for record in tuning.records)


def _settings(tuning: Tuning) -> Markup:
    stamps = [record.measurement.timestamp for record in tuning.records if record.measurement.timestamp]
    settings = {
        "Network": tuning.network,
        **{
            name.replace("_", " ").capitalize(): {"True": "yes", "False": "no"}.get(str(value), str(value))
            for name, value in tuning.settings.items()
        },
        "Target": "; ".join(map(str, tuning.targets)),
        "Device": ", ".join(tuning.devices),
        "Measured": f"{date(min(stamps))} to {date(max(stamps))}" if stamps else "",
        "TVM": ", ".join(tuning.versions),
        "gausstune": f"{importlib.metadata.version('gausstune')}, which wrote this page",
    }
    entries = ((element("dt", name), element("dd", value)) for name, value in settings.items() if value)
    return _section("Settings", None, element("dl", entries, class_="settings"))


def _again(tuning: Tuning) -> Markup | None:
    lines = commands(tuning)
    if not lines:
        return None
    explanation = (
        "Tuning goes on from its folder; with another folder it starts afresh."
        if tuning.network
        else "With its log a search goes on; with another it starts afresh. A log does not name the method and the seed: add "
        "them if they were not the usual ones."
    )
    return _section("Do it again", explanation, element("pre", "\n".join(lines)))


def _section(title: str, explanation: Child, *content: Child) -> Markup:
    return element("section", element("h2", title), element("p", explanation) if explanation else None, content)


def _wide(chart: Markup | None) -> Markup | None:
    return element("div", chart, class_="wide", tabindex="0") if chart else None


def _key(kind: str, meaning: str) -> Markup:
    """A colour of a chart and what it means."""
    return element("span", meaning, class_=f"key {kind}")


def _resource(name: str) -> str:
    return importlib.resources.files("tvm_bridge.report").joinpath(name).read_text(encoding="utf-8")
