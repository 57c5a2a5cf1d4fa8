"""A layer under way of being recorded: random configurations in turns, and after each turn one that was measured before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import jax
import numpy as np

from experiments import log
from search import KnobSpace
from search.driver import Driver
from search.knobs import Config
from search.methods.random import random_search
from tvm_bridge.gpu_state import gpu_state
from tvm_bridge.measure.base import Measurer
from tvm_bridge.progress import Progress
from tvm_bridge.record_log import RecordLog, compress
from tvm_bridge.records import Record
from tvm_bridge.session import Session, TuneResult
from tvm_bridge.task import Task

TURN = 50
"""Configurations of a layer that are measured before the next layer's turn, and between two looks at the noise."""

NOISE = "noise"
"""The folder, beside the logs, of the measurements of what was measured before."""

REFUSED = "refused"
"""The folder, beside the logs, of the measurements of what templates refuse."""

REFUSALS_DRAWN = 1 << 12
"""Configurations that are drawn to find some that the template refuses."""

STATES = "device.jsonl"
"""The log, beside them, of what the driver says of the GPU."""


class Logs:
    """The logs of a folder, each read once; closing compresses those that were opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: dict[str, RecordLog] = {}

    def __getitem__(self, name: str) -> RecordLog:
        if name not in self._opened:
            self._opened[name] = RecordLog(self.folder / f"{name}.jsonl.gz")
        return self._opened[name]

    def close(self) -> None:
        """Compress what was opened."""
        for opened in self._opened.values():
            compress(opened.path)


@dataclass
class LayerRecording:
    """A layer of which configurations are recorded, turn by turn.

    - `task`, `name`: the layer, and the name of its log.
    - `wanted`: how many configurations in all, the log's included.
    - `logs`, `measurer`: where measurements are kept, and who makes them.
    - `seed`: of the random configurations.
    - `deadline`: the `time.perf_counter()` to end at.
    - `noted`: called after something was measured again, with the layer's name.
    - `refused`: how many configurations that the template refuses are built and run all the same, before the others.
    """

    task: Task
    name: str
    wanted: int
    logs: Logs
    measurer: Measurer
    seed: int
    deadline: float
    noted: Callable[[str], None] = lambda layer: None
    refused: int = 0
    _session: Session | None = field(default=None, init=False)
    _driver: Driver | None = field(default=None, init=False)
    _fresh: int = field(default=0, init=False)
    _again: Record | None = field(default=None, init=False)

    @property
    def complete(self) -> bool:
        """Whether all that is wanted, or all that there is, is recorded."""
        driver = self._driver
        return driver is not None and (driver.trials >= self.wanted or driver.stopped == "exhausted")

    def turn(self) -> str:
        """Measure the next configurations, TVM's default schedule before the first; returns how it stands, in words."""
        session, driver = self._begun()
        before = self._fresh
        driver.advance(min(TURN, self.wanted - driver.trials))
        if self._fresh > before and driver.stopped != "time limit":
            self._measure_again(session)
        default = f"default {session.default:.1f}" if session.default else "default failed"
        failed = sum(session.errors.values())
        return (
            f"{self.task.name}: {driver.trials} of {self.wanted}, best {max(session.best, session.default):.1f} GFLOPS, "
            f"{default}, {failed} failed"
        )

    def result(self) -> TuneResult:
        """What is recorded.

        **Raises:** `TuningError` if nothing works.
        """
        session, driver = self._begun()
        return session.result(driver.run(driver.stopped or "trials"))

    def _begun(self) -> tuple[Session, Driver]:
        if self._session is None or self._driver is None:
            self._session = Session(self.task, self.measurer, self.logs[self.name], self.wanted, [self._count])
            self._session.measure_default()
            self._measure_refused()
            search = random_search(self.task.space, key=jax.random.key(self.seed), batch=TURN)
            self._driver = Driver(search, self._session.measure, deadline=self.deadline)
        return self._session, self._driver

    def _count(self, progress: Progress) -> None:
        self._fresh += not progress.reused

    def _measure_again(self, session: Session) -> None:
        """Measure the layer's first configuration that worked once more, always the same."""
        noise = self.logs[f"{NOISE}/{self.name}"]
        if self._again is None:
            known = [record for record in noise.records if record.key == self.task.key]
            worked = [record for record in session.records if record.config is not None and record.measurement.ok]
            self._again = next(iter([*known, *worked]), None)
        if self._again is not None and self._again.config is not None:
            self._measure(self.task, [self._again.config], noise)
            self.noted(self.task.name)

    def _measure_refused(self) -> None:
        """Build and run configurations that the template refuses, in the same space without its predicate."""
        if not self.refused:
            return
        space, refused = KnobSpace(self.task.space.knobs), self.logs[f"{REFUSED}/{self.name}"]
        rows = np.random.default_rng(self.seed).integers(space.shape, size=(REFUSALS_DRAWN, len(space.knobs)))
        rows = rows[~np.asarray(self.task.space.valid(rows))]
        numbers = list(dict.fromkeys(space.to_index(rows)))[: self.refused]
        known = {record.index for record in refused.records if record.key == self.task.key}
        configs = [space.to_config(space.from_index(number)) for number in numbers if number not in known]
        self._measure(replace(self.task, space=space), configs, refused)

    def _measure(self, task: Task, configs: Sequence[Config], into: RecordLog) -> None:
        """Measure configurations beside the search, until the deadline."""
        with closing(self.measurer.stream(task, configs)) as arriving:
            for place, measurement in arriving:
                index = task.space.to_index(task.space.from_config(configs[place]))
                into.append(Record(task.key, index, configs[place], measurement, task.candidates))
                if time.perf_counter() > self.deadline:
                    return


def note_state(folder: Path, moment: str, layer: str = "") -> None:
    """Append what the driver says of the GPU now, or why it says nothing."""
    state = gpu_state()
    told = {"unknown": state} if isinstance(state, str) else asdict(state)
    log.append(folder / STATES, {"moment": moment, "layer": layer, "time": time.time(), **told})
