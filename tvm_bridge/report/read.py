"""Read what a tuning left behind: its log and, where it has a folder, what else the folder says.

A folder holds `records.jsonl`, the log; `network.json`, the network's tasks and what was asked for; `rounds.jsonl`, a line for
every time that a task was given measurements; and `latency.jsonl`, a line for every benchmark of the whole network. Only the
log must be there.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tvm_bridge.network.benchmark import LATENCY_LOG, Latency
from tvm_bridge.network.folder import DESCRIPTION, ROUNDS, Round
from tvm_bridge.records import DEFAULT_INDEX, FOLDER_LOG, PLAUSIBLE, Record, TaskKey, is_time, read_records
from tvm_bridge.report.data import TaskRecords, Tuning
from tvm_bridge.target import Target
from tvm_bridge.workload import Workload, from_args

TOGETHER = 1.0
"""Seconds between the lines of one benchmark, at most."""

DAMAGE = (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)
"""What reading a damaged or foreign file as JSON can raise."""

T = TypeVar("T")


def read_tuning(source: Path) -> Tuning:
    """Read a log (`.jsonl`, `.jsonl.gz`) or a tuning's folder.

    What is damaged is left out and said in `notes`: a tuning may be looked at while it runs, or after a crash.

    **Raises:** `FileNotFoundError` if there is no such log; `ValueError` if it holds no record, or `network.json` is none.
    """
    log = source / FOLDER_LOG if source.is_dir() else source
    if not log.is_file():
        missing = f"{source} holds no {FOLDER_LOG}" if source.is_dir() else f"{source} is not there"
        raise FileNotFoundError(f"log: {missing}; name a log (.jsonl, .jsonl.gz) or the folder of a tuned network.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = [_sound(record) for record in read_records(log)]
    if not records:
        raise ValueError(f"log: {log} holds no record of a measurement; name the log of a tuning.")
    notes = [str(warning.message).replace(str(log), log.name) for warning in caught]
    network = _network(source / DESCRIPTION) if source.is_dir() else _Network()
    rounds: list[Round] = []
    latencies: dict[str, Latency] = {}
    if source.is_dir():
        rounds = list(_rows(source / ROUNDS, _round, notes))
        latencies = _compared(list(_rows(source / LATENCY_LOG, _latency, notes)), notes)
    tasks = tuple(_tasks(records, network, notes))
    return Tuning(
        source.resolve().name,
        network.name,
        network.settings,
        _versions(log),
        tasks,
        network.uncovered,
        tuple(rounds),
        latencies,
        tuple(notes),
        network.model,
        network.shapes,
        network.history,
        str(source),
    )


# The log


def _sound(record: Record) -> Record:
    """The record, without what cannot be the seconds that it took or a point in time."""
    measurement = record.measurement
    sound = replace(
        measurement,
        all_cost=measurement.all_cost if 0 <= measurement.all_cost < PLAUSIBLE[1] else 0.0,
        timestamp=measurement.timestamp if 0 <= measurement.timestamp < 1e10 else 0.0,
    )
    return replace(record, measurement=sound)


def _versions(log: Path) -> tuple[str, ...]:
    """The versions of TVM that wrote a log; a torn compressed log has those of its whole part."""
    versions: dict[str, None] = {}
    with suppress(EOFError, zlib.error, gzip.BadGzipFile), (gzip.open if log.suffix == ".gz" else open)(log, "rb") as lines:
        for line in lines:
            versions |= dict.fromkeys(re.findall(r'"tvm_version": ?"([^"\\]*)"', line.decode(errors="replace")))
    return tuple(versions)


def _tasks(records: list[Record], network: _Network, notes: list[str]) -> Iterator[TaskRecords]:
    """The network's tasks, or those of a log of single tasks in order of appearance; no two have the same label."""
    groups: dict[TaskKey, list[Record]] = {}
    for record in records:
        key = record.key if network.target is None else record.key._replace(target=network.target)
        groups.setdefault(key, []).append(record)
    labels: Counter[str] = Counter()
    for named in network.tasks or [_Named("", key, None, None) for key in groups]:
        workload = _workload(named.key)
        label = named.label or (named.key.operator if workload is None else workload.summary)
        labels[label] += 1
        group = groups.get(named.key, [])
        yield TaskRecords(
            label if labels[label] == 1 else f"{label} ({labels[label]})",
            named.key,
            workload,
            named.count,
            named.flop or (None if workload is None else float(workload.flop)),
            next((record.measurement for record in group if record.index == DEFAULT_INDEX and record.measurement.ok), None),
            tuple(record for record in group if record.index != DEFAULT_INDEX),
            tuple(record for record in group if record.index == DEFAULT_INDEX),
        )
    if strange := groups.keys() - {named.key for named in network.tasks} if network.tasks else set():
        count = sum(len(groups[key]) for key in strange)
        notes.append(f"{FOLDER_LOG}: left out {count} measurements of tasks that network.json does not name.")


def _workload(key: TaskKey) -> Workload | None:
    try:
        return from_args(key.operator, json.loads(key.args))
    except ValueError:
        return None


# The other files of a folder


@dataclass(frozen=True)
class _Named:
    """A task as a network lists it; without a label it is described by its shape."""

    label: str
    key: TaskKey
    count: int | None
    flop: float | None


@dataclass(frozen=True)
class _Network:
    """What `network.json` says; nothing for a log of single tasks."""

    name: str = ""
    target: Target | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[_Named, ...] = ()
    uncovered: Mapping[str, int] = field(default_factory=dict)
    model: str = ""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    history: tuple[str, ...] = ()


def _network(path: Path) -> _Network:
    if not path.exists():
        return _Network()
    try:
        fields = json.loads(path.read_bytes())
        target = Target.parse(fields["target"])
        named = (
            _Named(
                str(task["label"]),
                TaskKey.of(target, str(task["operator"]).removesuffix(f".{target.kind}"), task["args"], str(task["function"])),
                int(_number(task["count"], 1, 1e9)),
                _number(task["flop"], 1.0, 1e30) if task.get("flop") else None,
            )
            for task in fields["tasks"]
        )
        told = ("method", "seed", "trials", "enlarged", "history")
        settings = {name: fields[name] for name in told if fields.get(name) is not None}
        asked = fields.get("asked", {})
        settings |= {name: asked[name] for name in ("early_stopping", "time_limit", "layout", "pretrained") if name in asked}
        shapes = {str(name): tuple(map(int, shape)) for name, shape in asked.get("shapes", {}).items()}
        again = str(asked.get("model") or fields["network"]), shapes, tuple(map(str, asked.get("history", ())))
        uncovered = {str(each["function"]): int(each["count"]) for each in fields.get("uncovered", [])}
        return _Network(str(fields["network"]), target, settings, tuple(named), uncovered, *again)
    except DAMAGE as error:
        raise ValueError(
            f"log: {path} does not describe a network ({type(error).__name__}: {error}); tune it again into another folder."
        ) from error


def _rows(path: Path, parse: Callable[[Any], T], notes: list[str]) -> Iterator[T]:
    """The rows of a JSON Lines file, none if it is not there; a damaged line is left out and noted."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield parse(json.loads(line))
            except DAMAGE as error:
                notes.append(f"{path.name}:{number}: left out ({type(error).__name__}: {error}).")


def _round(fields: Any) -> Round:
    best, predicted = (float(fields.get(name) or math.inf) for name in ("best_seconds", "network_seconds"))
    return Round(
        str(fields["task"]),
        int(fields["trials"]),
        _number(fields["seconds_searching"], 0.0, 1e9),
        _number(fields["seconds_measuring"], 0.0, 1e9),
        best,
        predicted if is_time(predicted) else math.inf,
    )


def _latency(fields: Any) -> tuple[str, Latency, float]:
    seconds = np.array([_number(second, *PLAUSIBLE) for second in fields["seconds"]])
    if not len(seconds):
        raise ValueError("it has no run")
    return str(fields["what"]), Latency(seconds, str(fields.get("device", ""))), float(fields.get("timestamp", 0.0))


def _compared(measured: list[tuple[str, Latency, float]], notes: list[str]) -> dict[str, Latency]:
    """The latencies of the last benchmark that has the network before and after, or of the last: only what took turns."""
    benchmarks: list[dict[str, Latency]] = []
    before = -math.inf
    for name, runs, timestamp in measured:
        if abs(timestamp - before) > TOGETHER:
            benchmarks.append({})
        benchmarks[-1][name] = runs
        before = timestamp
    if not benchmarks:
        return {}
    chosen = next((each for each in reversed(benchmarks) if {"default", "tuned"} <= each.keys()), benchmarks[-1])
    if len(benchmarks) > 1:
        notes.append(f"latency.jsonl: left out {len(benchmarks) - 1} other benchmarks, which did not run in turns with this.")
    return chosen


def _number(value: Any, least: float, largest: float) -> float:
    if not least <= float(value) <= largest:
        raise ValueError(f"{value} is not in {least:g} .. {largest:g}")
    return float(value)
