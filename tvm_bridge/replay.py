"""Recorded logs and tables as tasks, whose measurer looks results up."""

from __future__ import annotations

import gzip
import json
import os
import statistics
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np

from search import KnobSpace, Option
from tvm_bridge.measure.base import ErrorCategory, Measurement
from tvm_bridge.measure.replay import Replay
from tvm_bridge.records import Paths, Record, TaskKey, is_time, read_records
from tvm_bridge.target import Target
from tvm_bridge.task import Task, task_recorded


def replay(paths: Paths, *, missing: str = "error") -> list[Task]:
    """Make tasks of what was recorded; `tune` works on them as on any other.

    **Arguments:**

    - `paths`: AutoTVM logs (`.jsonl`, `.jsonl.gz`) and folders of tuned networks, whose records are pooled, and exhaustive
      tables (`.json`, `.json.gz`).
    - `missing`: what a configuration that was not recorded means: "error", or "fail" to count it as failed.

    **Returns:** a task for every operator, shape, target and device in the logs, in order of appearance, then one for every
    table. Its space is confined to what was recorded. A table has no count of operations, so its throughput is 1/seconds.

    **Raises:** `ValueError` for a log of an operator that has no template, or a file that is neither.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    tables = [file for file in files if file.name.removesuffix(".gz").endswith(".json")]
    logs = [file for file in files if file not in tables]
    return [*_log_tasks(read_records(logs), missing), *(_table_task(path, missing) for path in tables)]


def _log_tasks(records: Iterable[Record], missing: str) -> list[Task]:
    grouped: dict[TaskKey, list[Record]] = {}
    for record in records:
        grouped.setdefault(record.key, []).append(record)
    return [_log_task(key, some, device, missing) for key, group in grouped.items() for device, some in _by_device(group)]


def _by_device(records: list[Record]) -> list[tuple[str, list[Record]]]:
    """Each device with its records of configurations; what does not say where it was measured counts for the first."""
    tried = [record for record in records if record.config is not None]
    devices = list(dict.fromkeys(record.measurement.device for record in tried if record.measurement.device)) or [""]
    return [
        (name, some)
        for name in devices
        if (some := [record for record in tried if (record.measurement.device or devices[0]) == name])
    ]


def _log_task(key: TaskKey, records: list[Record], device: str, missing: str) -> Task:
    configs = [record.config for record in records if record.config]
    task = task_recorded(key, configs)
    if any(task.own(config) is None for config in configs):
        task = task_recorded(key, configs, enlarged=True)
    assert task.workload is not None
    task = replaced(task, label=f"{task.workload.summary} on {device or key.target}")
    recorded: dict[int, list[Measurement]] = {}
    for record in records:
        if config := record.config and task.own(record.config):
            index = task.space.to_index(task.space.from_config(config))
            if index != record.index and record.candidates == task.candidates:
                warnings.warn(f"{task.name}: index {record.index} does not name {record.config}; it is {index}.", stacklevel=4)
            recorded.setdefault(index, []).append(record.measurement)
    rows = task.space.from_index(list(recorded))
    pooled = {index: _pooled(group) for index, group in recorded.items()}
    accepted = task.space.valid(rows)
    refused = sum(measurement.ok and not fits for measurement, fits in zip(pooled.values(), accepted, strict=True))
    if refused:
        warnings.warn(f"{task.name}: the template refuses {refused} recorded configurations that ran; left out.", stacklevel=4)
    measurer = Replay(pooled, device=device or str(key.target), missing=missing)
    return replaced(task, space=task.space.confine(rows), measurer=measurer)


def _pooled(measurements: list[Measurement]) -> Measurement:
    """One measurement for a configuration recorded several times: the median of its times, or its failure."""
    working = [measurement for measurement in measurements if measurement.ok]
    if not working:
        return measurements[0]
    return replaced(working[0], seconds=(statistics.median(measurement.cost for measurement in working),))


def _table_task(path: Path, missing: str) -> Task:
    """Read a table: `knobs` names the columns of `config`; `time_s` is seconds or null; `error` says how a row failed."""
    content = path.read_bytes()
    try:
        table = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
        columns = list(zip(*table["config"], strict=True))
        space = KnobSpace(
            [Option(name, tuple(sorted(set(column)))) for name, column in zip(table["knobs"], columns, strict=True)]
        )
        knobs = [space.from_config(dict(zip(space.names, row, strict=True))) for row in table["config"]]
        rows = zip(knobs, table["time_s"], table["error"], strict=True)
        recorded = {space.to_index(row): _cell(seconds, error) for row, seconds, error in rows}
        kernel, task_id, device = (table[name] for name in ("kernel", "task_id", "device"))
        if not all(isinstance(name, str) for name in (kernel, task_id, device)):
            raise ValueError("kernel, task_id and device must be names")
    except (KeyError, TypeError, ValueError, OSError, EOFError, zlib.error, RecursionError) as error:
        raise ValueError(f"{path}: not a table of measurements ({type(error).__name__}: {error}).") from error
    return Task(
        operator=kernel,
        args=[task_id],
        target=Target("table"),
        space=space.confine(np.stack(knobs)),
        measurer=Replay(recorded, device=device, missing=missing),
        label=f"{kernel} on {device}",
    )


def _cell(seconds: float | None, error: int | str | None) -> Measurement:
    """One row's result; errors are AutoTVM's numbers or words."""
    if seconds is not None:
        if not is_time(float(seconds)):
            raise ValueError(f"no run takes {seconds} seconds")
        return Measurement((float(seconds),))
    words = str(error or "")
    number = int(words) if words.isdigit() else 0
    return Measurement((), ErrorCategory(number or ErrorCategory.UNKNOWN), "" if number else words)
