"""Search methods on a device: every method tunes layers of networks; `device_judgement.py` judges what they have found.

Each tuning has a process of its own. Programs of JAX that an earlier one has compiled are in the user's cache, as for any user:
whoever comes first takes seconds more.
"""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from experiments.command import Complain
from experiments.method_comparison import applies, compared
from search.knobs import Config
from tvm_bridge import Local, Target, TuneResult, TuningError, networks, tune
from tvm_bridge.record_log import compress
from tvm_bridge.target import host_cores
from tvm_bridge.task import Task, task_of

HISTORIES = ("none", "same")
UNFINISHED = "time limit"
"""How a tuning stopped that goes on in another session."""


@dataclass(frozen=True)
class Setting:
    """What methods are compared on.

    - `tasks`: the name of such tasks in reports.
    - `folder`: where everything that is measured is kept.
    - `target`: resolved. `layers`: network and name of each.
    - `budgets`: numbers of measurements after which the incumbents are judged, ascending; as many as the last are made.
    - `min_repeat_ms`: least milliseconds of each of the three times of a measurement.
    - `enlarged`: whether spaces have all that their templates can do.
    - `history`: logs of other tasks, beside those of the other layers.
    - `untuned`: whether TVM's default schedule is judged too.
    - `at_once`: tunings that share the cores, and take turns at the device.
    """

    tasks: str
    folder: Path
    target: Target
    layers: tuple[tuple[str, str], ...]
    budgets: tuple[int, ...]
    min_repeat_ms: int
    enlarged: bool = False
    history: tuple[Path, ...] = ()
    untuned: bool = False
    at_once: int = 1

    @property
    def trials(self) -> int:
        """Measurements of a tuning."""
        return self.budgets[-1]

    @property
    def tunings(self) -> Path:
        """The log of finished tunings, and of sessions that did not finish theirs."""
        return self.folder / "tunings.jsonl"

    @property
    def judgements(self) -> Path:
        """The log of judged layers."""
        return self.folder / "judgements.jsonl"

    def finished(self, lines: Iterable[Mapping]) -> list[Mapping]:
        """The lines of tunings with these budgets that came to their end."""
        return [line for line in lines if line["stopped"] != UNFINISHED and tuple(line["budgets"]) == self.budgets]

    def task(self, network: str, layer: str) -> Task:
        """A layer as it is tuned."""
        workload = networks.layer(network, layer).workload
        return task_of(workload, self.target, label=f"{network} {layer}", enlarged=self.enlarged)

    def measurer(self) -> Local:
        """What tunes and what judges."""
        builders = max(1, host_cores() // self.at_once) if self.at_once > 1 else None
        return Local(repeat=3, min_repeat_ms=self.min_repeat_ms, builders=builders)


@dataclass(frozen=True)
class Tuning:
    """One call of `tune`, as another process is told of it."""

    setting: Setting
    network: str
    layer: str
    method: str
    history: str
    seed: int

    @property
    def path(self) -> Path:
        """The log of its measurements."""
        method = self.method.replace(", ", "-").replace(" ", "-")
        return self.setting.folder / "tune" / f"{self.network}-{self.layer}-{method}-{self.history}-{self.seed}.jsonl.gz"

    @property
    def key(self) -> tuple:
        """What identifies it among the lines of `Setting.tunings`."""
        return f"{self.network} {self.layer}", self.method, self.history, self.seed, self.setting.budgets

    @property
    def taught(self) -> list[Path]:
        """The logs of its history: those of random search on the other layers, and the setting's.

        **Raises:** `FileNotFoundError` if one of them was not tuned yet.
        """
        if self.history == "none":
            return []
        others = (each for each in self.setting.layers if each != (self.network, self.layer))
        paths = [Tuning(self.setting, *each, "random", "none", self.seed).path for each in others]
        if absent := [path for path in paths if not path.exists()]:
            raise FileNotFoundError(f"history: {absent[0]} is not there yet; run `--methods random` first.")
        return [*paths, *self.setting.history]

    def line(self, until: float = math.inf) -> dict[str, Any]:
        """Tune until that moment at the latest, of `time.time`, and say what came of it; the log is compressed at the end."""
        task, trials = self.setting.task(self.network, self.layer), self.setting.trials
        with self.setting.measurer() as measurer:
            device = measurer.device(task)
            result = tune(
                task,
                method=compared(self.method, trials),
                trials=trials,
                log=self.path,
                seed=self.seed,
                history=self.taught or None,
                pretrained=False,  # a model that ships has a history of its own
                measurer=measurer,
                time_limit=None if math.isinf(until) else max(until - time.time(), 0.1),
                progress=False,
            )
        if result.stopped != UNFINISHED:
            compress(self.path)
        return {
            **{"tasks": self.setting.tasks, "device": device, "task": task.label, "history": self.history},
            **{"network": self.network, "layer": self.layer, "method": self.method, "seed": self.seed},
            "budgets": self.setting.budgets,
            "incumbents": incumbents(result, self.setting.budgets),
            "stopped": result.stopped,
            "seconds": round(result.seconds_searching, 2),
            "measuring": round(result.seconds_measuring, 2),
            "at_once": self.setting.at_once,
        }


def tunings(setting: Setting, methods: Mapping[str, Sequence[str]], seeds: int) -> Iterator[Tuning]:
    """Every tuning, random search first: it is the others' history. A seed is done before the next one is begun.

    **Arguments:**

    - `methods`: each with the histories that it tunes with.
    """
    for seed in range(seeds):
        if "random" in methods:
            for network, layer in setting.layers:
                yield Tuning(setting, network, layer, "random", "none", seed)
        for network, layer in setting.layers:
            for history in HISTORIES:
                for method, histories in methods.items():
                    if method != "random" and history in histories and applies(method, history):
                        yield Tuning(setting, network, layer, method, history, seed)


def unfinished(wanted: Iterable[Tuning], lines: Iterable[Mapping]) -> list[Tuning]:
    """The tunings that no line has the end of."""
    done = {_key(line) for line in lines if line["stopped"] != UNFINISHED}
    return [tuning for tuning in wanted if tuning.key not in done]


def tuned(wanted: Iterable[Tuning], known: Sequence[dict], *, complain: Complain, until: float = math.inf) -> Iterator[dict]:
    """Tune what is not finished, until that moment; yields a line for each session.

    A tuning's seconds of measuring are those of all its sessions that were not killed; in each it thinks from the start again,
    and the last one's thinking counts. One that finds nothing is complained about.
    """
    measuring: dict[tuple, float] = defaultdict(float)
    for earlier in known:
        measuring[_key(earlier)] = earlier["measuring"]
    for _, group in groupby(unfinished(wanted, known), key=lambda tuning: (tuning.seed, tuning.method == "random")):
        for tuning, future in _together(list(group), until):
            try:
                if (line := future.result()) is None:
                    continue
            except TuningError as error:
                complain(str(error))
            else:
                line["measuring"] = round(line["measuring"] + measuring[tuning.key], 2)
                print(line, file=sys.stderr, flush=True)
                yield line


def _together(group: Sequence[Tuning], until: float) -> Iterator[tuple[Tuning, Future[dict | None]]]:
    """Tune, as many at once as the setting says; each tuning with its line, as they end."""
    with ThreadPoolExecutor(group[0].setting.at_once) as pool:
        running = {pool.submit(_alone, tuning, until): tuning for tuning in group}
        try:
            for future in as_completed(running):
                yield running[future], future
        finally:
            pool.shutdown(cancel_futures=True)


def _alone(tuning: Tuning, until: float) -> dict | None:
    """The line of a tuning in a process of its own; None if it is too late to begin."""
    if time.time() >= until:
        return None
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        return alone.submit(tuning.line, until).result()


def incumbents(result: TuneResult, budgets: Iterable[int]) -> list[Config | None]:
    """The best configuration after each budget, the default schedule left out; None while all have failed."""
    measured = [record for record in result.records if record.config is not None]
    costs = np.array([record.measurement.cost if record.measurement.ok else np.inf for record in measured])
    best = [int(np.argmin(costs[:budget])) if len(costs) else None for budget in budgets]
    return [None if place is None or np.isinf(costs[place]) else measured[place].config for place in best]


def _key(line: Mapping) -> tuple:
    return line["task"], line["method"], line["history"], line["seed"], tuple(line["budgets"])
