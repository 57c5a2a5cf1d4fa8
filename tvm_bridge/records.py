"""Records: one JSON line a measurement, as AutoTVM writes its logs (format 0.2), plus the device and a failure's message."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tvm_bridge.log_lines import lines
from tvm_bridge.measure.base import ErrorCategory, Measurement
from tvm_bridge.target import CACHES, Target
from tvm_bridge.workload import WORKLOADS, from_args

FAILED_SECONDS = 1e9
"""What a log shows as the time of a failure."""

PLAUSIBLE = (1e-9, 1e6)
"""Seconds that a run can take; a log that says otherwise is damaged."""

DEFAULT_INDEX = -1
"""The index under which a log shows TVM's default schedule, which is no configuration of the space."""

FOLDER_LOG = "records.jsonl"
"""The log in the folder of a network's tuning."""

TVM_VERSION = importlib.metadata.version("apache-tvm")

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class TaskKey(NamedTuple):
    """What identifies a task in records.

    The target, the operator, its arguments as JSON in one spelling, and the digest of a function that has more to it (a fused
    epilogue), empty for the operator alone.
    """

    target: Target
    operator: str
    args: str
    function: str = ""

    @classmethod
    def of(cls, target: Target, operator: str, args: Iterable[Any], function: str = "") -> TaskKey:
        """The key of a task; AutoTVM's several ways to write an operator's arguments count as one."""
        args = list(args)
        if operator in WORKLOADS:
            args = from_args(operator, args).args
        return cls(target, operator, json.dumps(args), function)


@dataclass(frozen=True)
class Record:
    """One measurement and what was measured.

    - `key`: the task.
    - `index`: the configuration's number in the task's space, `DEFAULT_INDEX` for TVM's default schedule.
    - `config`: `{knob: factors or value}`; a first factor of -1 means what remains. None for the default.
    - `candidates`: the options of the knobs whose options were not the template's; they bear on the index alone.
    """

    key: TaskKey
    index: int
    config: dict[str, Any] | None
    measurement: Measurement
    candidates: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def to_json(self) -> str:
        """The record as a line of a log, without its end."""
        entity = [_entity(name, value) for name, value in (self.config or {}).items()]
        target = self.key.target
        operator = f"{self.key.operator}.{target.kind}" if self.key.operator in WORKLOADS else self.key.operator
        extra_input = {"function": self.key.function, "candidates": self.candidates, CACHES: target.caches}
        result = self.measurement
        line = {
            "input": [
                str(replace(target, caches=())),
                operator,
                json.loads(self.key.args),
                {k: v for k, v in extra_input.items() if v},
            ],
            "config": {"index": self.index, "code_hash": None, "entity": entity},
            "result": [list(result.seconds) or [FAILED_SECONDS], int(result.error), result.all_cost, result.timestamp],
            "version": 0.2,
            "tvm_version": TVM_VERSION,
        }
        extra = {"device": result.device, "message": result.message}
        return json.dumps(line | {name: text for name, text in extra.items() if text}, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> Record:
        """Read a line of a log.

        **Raises:** `ValueError` saying what is wrong with it.
        """
        try:
            fields = json.loads(line)
            key = _task_key(json.dumps(fields["input"]))
            seconds, error, all_cost, timestamp = fields["result"]
            config = {
                knob: tuple(int(factor) for factor in value) if kind == "sp" else value
                for knob, kind, value in fields["config"]["entity"]
            }
            category = ErrorCategory(error)
            if category is ErrorCategory.NO_ERROR:
                if not seconds:
                    raise ValueError("it has neither a time nor an error")
                if not all(is_time(float(second)) for second in seconds):
                    raise ValueError(f"no run takes {', '.join(map(str, seconds))} seconds")
            measurement = Measurement(
                tuple(float(second) for second in seconds) if category is ErrorCategory.NO_ERROR else (),
                category,
                str(fields.get("message", "")),
                float(all_cost),
                float(timestamp),
                str(fields.get("device", "")),
            )
            index = int(fields["config"]["index"])
            candidates = {
                knob: tuple(tuple(option) if isinstance(option, list) else option for option in options)
                for knob, options in (fields["input"][3].get("candidates", {}) if len(fields["input"]) > 3 else {}).items()
            }
            return cls(key, index, None if index == DEFAULT_INDEX else config, measurement, candidates)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a record of a measurement ({type(error).__name__}: {error})") from error


def is_time(seconds: float) -> bool:
    """Whether a run can take so many seconds."""
    return PLAUSIBLE[0] <= seconds <= PLAUSIBLE[1]


@functools.lru_cache(maxsize=4096)
def _task_key(task: str) -> TaskKey:
    """The key of a line's input, as JSON: a log repeats a task thousands of times."""
    text, name, args, *more = json.loads(task)
    target = Target.parse(text)
    if more and CACHES in more[0]:
        target = Target.parse(target.to_json() | {CACHES: more[0][CACHES]})
    operator = name.removesuffix(f".{target.kind}")
    function = str(more[0].get("function", "")) if more else ""
    return TaskKey.of(target, operator if operator in WORKLOADS else name, args, function)


def _entity(name: str, value: Any) -> list[Any]:
    """A knob as AutoTVM logs it: a split, an order of axes, their annotations, or any other choice."""
    if isinstance(value, tuple):
        return [name, "sp", [-1, *value[1:]]]
    if isinstance(value, list):
        return [name, "re" if all(isinstance(axis, int) for axis in value) else "an", value]
    return [name, "ot", value]


def read_records(paths: Paths) -> list[Record]:
    """Read the records of one or more logs in order; a path ending in .gz is decompressed, a folder is a network's tuning.

    A damaged line is left out with a warning that names its file and number.

    **Raises:** `FileNotFoundError` if a log is not there.
    """
    records = []
    for path in map(_log_of, [paths] if isinstance(paths, (str, os.PathLike)) else paths):
        for number, line in enumerate(lines(path), start=1):
            if line.strip():
                try:
                    records.append(Record.from_json(line))
                except ValueError as error:
                    warnings.warn(f"{path}:{number}: left out, {error}.", stacklevel=2)
    return records


def gather(argument: str, given: Paths | Iterable[Record] | None) -> list[Record]:
    """Records given as such, as logs, or as the folder that `tune_network` wrote.

    **Raises:** `FileNotFoundError` naming the argument if one is not there.
    """
    items = [given] if isinstance(given, (str, os.PathLike)) else given or ()
    gathered: list[Record] = []
    for item in items:
        if isinstance(item, Record):
            gathered.append(item)
            continue
        if not (path := _log_of(item)).exists():
            raise FileNotFoundError(f"{argument}: {path} is not there; give records, logs, or a tuning's folder.")
        gathered += read_records(path)
    return gathered


def _log_of(path: str | os.PathLike[str]) -> Path:
    """The log that is meant: the file itself, or that in the folder of a network's tuning."""
    return Path(path, FOLDER_LOG) if Path(path).is_dir() else Path(path)


def best_records(paths: Paths) -> dict[TaskKey, Record]:
    """The fastest record of every task in one or more logs: `best_records(path)[task.key].config`."""
    best: dict[TaskKey, Record] = {}
    for record in read_records(paths):
        if record.measurement.cost < (best[record.key].measurement.cost if record.key in best else float("inf")):
            best[record.key] = record
    return best
