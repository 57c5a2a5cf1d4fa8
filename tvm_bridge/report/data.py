"""What is known of a tuning, as the report shows it: tasks with their measurements, rounds, and runs of the whole network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm_bridge.measure.base import Measurement
from tvm_bridge.network.benchmark import Latency
from tvm_bridge.network.folder import Round
from tvm_bridge.records import Record, TaskKey
from tvm_bridge.target import Target
from tvm_bridge.workload import Workload


@dataclass(frozen=True)
class TaskRecords:
    """One task and all that was measured of it.

    - `label`: its name, unique in the tuning.
    - `key`: what identifies it in the log.
    - `workload`: its operator; None if the log names one that nobody knows here.
    - `count`: in how many places of the network it occurs; None if it was tuned alone.
    - `flop`: floating-point operations of one run; None if unknown.
    - `default`: the measurement of TVM's default schedule; None if there is none that worked.
    - `trials`: the measured configurations in order.
    - `defaults`: the measurements of TVM's default schedule, failed ones too.
    """

    label: str
    key: TaskKey
    workload: Workload | None
    count: int | None
    flop: float | None
    default: Measurement | None
    trials: tuple[Record, ...]
    defaults: tuple[Record, ...] = ()

    @property
    def default_seconds(self) -> float | None:
        """The time of TVM's default schedule."""
        return None if self.default is None else self.default.cost

    @property
    def winner(self) -> Record | None:
        """The fastest configuration; None where none works or none is faster than the default schedule."""
        fastest = min(self.trials, key=lambda record: record.measurement.cost, default=None)
        limit = math.inf if self.default is None else self.default.cost
        return fastest if fastest is not None and fastest.measurement.cost < limit else None

    @property
    def seconds(self) -> float | None:
        """The time of the fastest that is known, the default schedule included."""
        return self.default_seconds if self.winner is None else self.winner.measurement.cost

    @property
    def gain(self) -> float | None:
        """How many times faster than the default schedule, 1 or above."""
        return self.default_seconds / self.seconds if self.default_seconds and self.seconds else None

    @property
    def failures(self) -> tuple[Record, ...]:
        """The trials that failed."""
        return tuple(record for record in self.trials if not record.measurement.ok)

    @property
    def failed_default(self) -> Record | None:
        """How TVM's default schedule failed, if it never worked."""
        return self.defaults[0] if self.defaults and self.default is None else None

    @property
    def unit(self) -> str:
        """What `throughput` counts."""
        return "runs/s" if self.flop is None else "GFLOPS"

    def throughput(self, seconds: float) -> float:
        """GFLOPS of a run, or runs a second where the operations were not counted; 0 for a failure's infinite time."""
        return (1.0 if self.flop is None else self.flop / 1e9) / seconds


@dataclass(frozen=True)
class Tuning:
    """All that is known of a tuning.

    - `source`: the log's or folder's name; `network`: the network's, empty if single tasks were tuned.
    - `settings`: what the tuning was asked for, by name; `versions`: TVM's, as the log has them.
    - `uncovered`: what no template covers, and how often each is called.
    - `latencies`: runs of the whole network by name ("default", "tuned"), those of one benchmark.
    - `notes`: what could not be read, in sentences.
    - `model`, `shapes`: the name or path that the network was read by, and the shapes that its open inputs were given.
    - `history`: the paths of the history that it was tuned with.
    - `path`: where the log or folder lies, as it was named.
    """

    source: str
    network: str
    settings: Mapping[str, Any]
    versions: tuple[str, ...]
    tasks: tuple[TaskRecords, ...]
    uncovered: Mapping[str, int]
    rounds: tuple[Round, ...]
    latencies: Mapping[str, Latency]
    notes: tuple[str, ...]
    model: str = ""
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    path: str = ""

    @property
    def records(self) -> list[Record]:
        """Every measured configuration, task by task."""
        return [record for task in self.tasks for record in task.trials]

    @property
    def devices(self) -> list[str]:
        """What was measured on, in order of appearance."""
        measured = [record.measurement for record in self.records] + [task.default for task in self.tasks if task.default]
        return list(dict.fromkeys(measurement.device for measurement in measured if measurement.device))

    @property
    def targets(self) -> list[Target]:
        """What was compiled for, in order of appearance."""
        return list(dict.fromkeys(task.key.target for task in self.tasks))

    @property
    def totals(self) -> tuple[float, float] | None:
        """Seconds of a network's tasks, each as often as it occurs, by default and tuned; None unless all are known."""
        parts = [
            (task.count * task.default_seconds, task.count * task.seconds)
            for task in self.tasks
            if task.count and task.default_seconds and task.seconds
        ]
        if not parts or len(parts) < len(self.tasks):
            return None
        before, after = zip(*parts, strict=True)
        return sum(before), sum(after)
