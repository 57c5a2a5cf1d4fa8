"""Other tasks' measurements, from records to the form that methods learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.history import Source
from tvm_bridge.records import Paths, Record, TaskKey, gather
from tvm_bridge.task import Task, task_recorded


def sources(history: Paths | Sequence[Record], task: Task) -> list[Source]:
    """Group records by task, leaving out the task itself, other operators and kinds of target, and what is beyond its space.

    **Raises:** `ValueError` if nothing is left to learn from.
    """
    found = find_sources(gather("history", history), task)
    if not found:
        raise ValueError(f"history: it holds no record of another {task.operator} on {task.target.kind} to learn from.")
    return found


def find_sources(records: Sequence[Record], task: Task) -> list[Source]:
    """The sources of `sources`; none is no error."""
    grouped: dict[TaskKey, list[Record]] = {}
    for record in records:
        key = record.key
        alike = key.operator == task.operator and key.target.kind == task.target.kind
        if record.config is not None and alike and key != task.key:
            grouped.setdefault(key, []).append(record)
    return [source for key, records in grouped.items() if (source := _source(key, records, task))]


def _source(key: TaskKey, records: Sequence[Record], like: Task) -> Source | None:
    task = task_recorded(key, [record.config for record in records if record.config], enlarged=like.enlarged)
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
