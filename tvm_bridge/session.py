"""The measurements of one tuning of one task: what the log knew, what is measured now, who hears of it, what comes out."""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace

from search import Run
from search.driver import Batch
from search.knobs import Config
from tvm_bridge.measure.base import ErrorCategory, Measurement, Measurer, TuningError
from tvm_bridge.progress import Progress, summary
from tvm_bridge.record_log import RecordLog
from tvm_bridge.records import DEFAULT_INDEX, Record
from tvm_bridge.task import Task


@dataclass(frozen=True)
class Candidate:
    """A configuration and how fast it is.

    - `config`: `{knob: factors or value}`, or None for TVM's default schedule.
    - `index`: its number in the task's space; -1 for the default schedule.
    - `seconds`: the median time of one run.
    - `gflops`: throughput; runs a second for a task without an operation count.
    """

    config: Config | None
    index: int
    seconds: float
    gflops: float


@dataclass(frozen=True)
class TuneResult:
    """What tuning found.

    - `best`: the fastest candidate, TVM's default schedule among them.
    - `default`: TVM's default schedule; None if it failed or the task is a replay.
    - `records`: every measurement of the task in order, the log's included.
    - `errors`: how many failed, by category.
    - `seconds_searching`, `seconds_measuring`: time spent choosing and measuring.
    - `stopped`: "trials", "exhausted", "early stopping" or "time limit".
    """

    best: Candidate
    default: Candidate | None
    records: tuple[Record, ...]
    errors: dict[ErrorCategory, int]
    seconds_searching: float
    seconds_measuring: float
    stopped: str


@dataclass
class Session:
    """The measurements of one tuning of a task: what the log knew, what is measured now, and who hears of it.

    - `trials`: the budget that callbacks are told.
    - `best`, `default`: throughput of the best configuration so far and of TVM's default schedule, 0.0 without one.
    - `best_seconds`, `default_seconds`: the least time so far, the default's among them, and the default's; infinite without.
    """

    task: Task
    measurer: Measurer
    log: RecordLog | None
    trials: int
    callbacks: list[Callable[[Progress], None]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    best: float = 0.0
    default: float = 0.0
    best_seconds: float = math.inf
    default_seconds: float = math.inf
    errors: Counter[ErrorCategory] = field(default_factory=Counter)
    messages: dict[ErrorCategory, str] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    spent_on_default: float = 0.0
    complaint: str = ""

    def __post_init__(self) -> None:
        self._known: dict[int, Measurement] = {}
        device = self.measurer.device(self.task)
        if self.log is None:
            return
        for record in self.log.records:
            if record.key != self.task.key:
                continue
            config = record.config and self.task.own(record.config)
            if config or record.config is None:
                self._known.setdefault(self._number(replace(record, config=config), device), record.measurement)

    def _number(self, record: Record, device: str) -> int:
        """The number here of a record's configuration; a record that was made elsewhere or means something else is refused."""
        assert self.log is not None
        if record.measurement.device not in ("", device):
            raise ValueError(
                f"log: {self.log.path} holds measurements of this task on {record.measurement.device!r}, but this is "
                f"{device!r}; use another log."
            )
        try:
            space, config = self.task.space, record.config
            number = DEFAULT_INDEX if config is None else space.to_index(space.from_config(config))
        except ValueError:
            number = None
        if number is None or (number != record.index and record.candidates == self.task.candidates):
            raise ValueError(
                f"log: {self.log.path} numbers this task's configurations otherwise, for another version of its template; "
                "use another log."
            )
        return int(number)

    def measure_default(self) -> None:
        """Measure TVM's default schedule, unless the log knows it or the measurer cannot."""
        if not self.measurer.has_default:
            return
        before = time.perf_counter()
        if DEFAULT_INDEX in self._known:
            self._note(DEFAULT_INDEX, None, self._known[DEFAULT_INDEX], reused=True)
        else:
            with closing(self.measurer.stream(self.task, [None])) as arriving:
                for _, measurement in arriving:
                    self._note(DEFAULT_INDEX, None, measurement, reused=False)
            if not self.records:
                raise RuntimeError(
                    "measurer: it gave no result for TVM's default schedule; its `has_default` says that it can."
                )
        if not self.default:
            failure = self.records[-1].measurement
            self.complaint = f"TVM's default schedule failed ({failure.error.name}: {failure.message})"
        self.spent_on_default = time.perf_counter() - before

    def measure(self, knobs: Batch) -> Generator[tuple[int, float]]:
        """Yield `(row, throughput)`: what is known first, then the rest as it is measured; a repeat is measured once."""
        space = self.task.space
        index = space.to_index(knobs)
        configs = [space.to_config(row) for row in knobs]
        fresh: dict[int, int] = {}  # index: the first row that has it
        for row, number in enumerate(index):
            if number not in self._known:
                fresh.setdefault(number, row)
        rows = list(fresh.values())
        later = [row for row in range(len(index)) if row not in rows]
        for row in later:
            if index[row] in self._known:
                yield row, self._note(index[row], configs[row], self._known[index[row]], reused=True)
        if rows:
            with closing(self.measurer.stream(self.task, [configs[row] for row in rows])) as arriving:
                for place, measurement in arriving:
                    row = rows[place]
                    yield row, self._note(index[row], configs[row], measurement, reused=False)
        for row in later:
            if index[row] in fresh:
                yield row, self._note(index[row], configs[row], self._known[index[row]], reused=True)

    def _note(self, index: int, config: Config | None, measurement: Measurement, *, reused: bool) -> float:
        """Keep a measurement, log it, tell the callbacks; returns its throughput."""
        record = Record(self.task.key, index, config, measurement, self.task.candidates)
        if self.log is not None and not reused:
            self.log.append(record)
        self.records.append(record)
        throughput = self.task.gflops(measurement.cost) if measurement.ok else 0.0
        self.best_seconds = min(self.best_seconds, measurement.cost)
        if config is None:
            self.default, self.default_seconds = throughput, measurement.cost
        else:
            self._known[index] = measurement
            self.best = max(self.best, throughput)
            if not measurement.ok:
                self.errors[measurement.error] += 1
                self.messages.setdefault(measurement.error, measurement.message)
        progress = Progress(
            record,
            self.tried,
            self.trials,
            throughput,
            self.best,
            self.default,
            time.perf_counter() - self.started,
            reused,
            self.errors.copy(),
            dict(self.messages),
        )
        for callback in self.callbacks:
            callback(progress)
        return throughput

    @property
    def tried(self) -> int:
        """How many configurations were measured, the default left out."""
        return len(self.records) - (bool(self.records) and self.records[0].index == DEFAULT_INDEX)

    def result(self, run: Run) -> TuneResult:
        """The outcome, or `TuningError` where nothing works."""
        working = [self._candidate(record) for record in self.records if record.measurement.ok]
        if self.tried and sum(self.errors.values()) == self.tried:
            explanation = f"{self.task.name}: all {self.tried} trials failed: {summary(self.errors, self.messages)}"
            if not working:
                raise TuningError(f"{'; '.join(filter(None, [explanation, self.complaint]))}.")
            warnings.warn(f"{explanation}; TVM's default schedule is all there is.", stacklevel=3)
        if not working:
            why = (
                "the space has no valid configuration"
                if run.stopped == "exhausted"
                else f"ended by {run.stopped} before a trial"
            )
            raise TuningError(f"{self.task.name}: {'; '.join(filter(None, [why, self.complaint]))}.")
        if self.complaint:
            warnings.warn(f"{self.task.name}: {self.complaint}; the result is not compared with it.", stacklevel=3)
        default = next((candidate for candidate in working if candidate.config is None), None)
        return TuneResult(
            min(working, key=lambda candidate: (candidate.seconds, candidate.index)),  # not by order of arrival
            default,
            tuple(self.records),
            dict(self.errors),
            run.seconds_searching,
            run.seconds_measuring + self.spent_on_default,
            run.stopped,
        )

    def _candidate(self, record: Record) -> Candidate:
        seconds = record.measurement.cost
        return Candidate(record.config, record.index, seconds, self.task.gflops(seconds))
