"""Other tasks' measurements, from records to the form that methods learn from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.history import Source
from tvm_bridge.records import Paths, Record, TaskKey, read_records
from tvm_bridge.task import Task, task_of
from tvm_bridge.workload import from_args


def sources(history: Paths | Sequence[Record], task: Task) -> list[Source]:
    """Group records by task, leaving out the task to be tuned, other operators, and what is beyond its space.

    **Raises:** `ValueError` if nothing is left to learn from.
    """
    grouped: dict[TaskKey, list[Record]] = {}
    for record in _records(history):
        if record.config is not None and record.key != task.key and record.key.operator == task.operator:
            grouped.setdefault(record.key, []).append(record)
    found = [source for key, records in grouped.items() if (source := _source(key, records, task.enlarged))]
    if not found:
        raise ValueError(f"history: it holds no record of another {task.operator} to learn from.")
    return found


def _records(history: Paths | Sequence[Record]) -> Sequence[Record]:
    items = [history] if isinstance(history, (str, os.PathLike)) else history
    for item in items:
        if not isinstance(item, Record) and not Path(item).exists():
            raise FileNotFoundError(f"history: {item} is not there; give records, or logs of other tasks.")
    return [record for item in items for record in ([item] if isinstance(item, Record) else read_records(item))]


def _source(key: TaskKey, records: Sequence[Record], enlarged: bool) -> Source | None:
    task = task_of(from_args(key.operator, json.loads(key.args)), key.target, enlarged=enlarged)
    configs = [(config, record) for record in records if record.config and (config := task.own(record.config))]
    if not configs:
        return None
    throughput = [task.gflops(record.measurement.cost) if record.measurement.ok else 0.0 for _, record in configs]
    return Source(
        f"{key.operator}{key.args}",
        task.space,
        np.stack([task.space.from_config(config) for config, _ in configs]),
        np.array(throughput),
    )
