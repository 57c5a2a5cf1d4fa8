"""`tune_network`: tune all tasks of a network under one budget, resumably."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax

from search.allocation import Claimant, Outcome, allocate
from search.driver import Driver
from search.history import Source
from tvm_bridge.convolution import Conv2d
from tvm_bridge.history import find_sources
from tvm_bridge.measure.base import Measurer, TuningError
from tvm_bridge.measure.local import Local
from tvm_bridge.network.extract import Extraction, NetworkTask, extraction_of
from tvm_bridge.network.folder import Folder, Round, describe
from tvm_bridge.network.progress import predicted, reporter
from tvm_bridge.network.result import NetworkResult, TunedTask
from tvm_bridge.pretrained import Pretrained, digest
from tvm_bridge.progress import Progress
from tvm_bridge.records import Paths, Record, gather
from tvm_bridge.session import Session
from tvm_bridge.task import Task
from tvm_bridge.tune import check_limits, proposer

if TYPE_CHECKING:
    from search.methods import Method

_TOLD = (bool, int, float, str, type(None))


def tune_network(
    model: Any,
    target: Any = None,
    *,
    trials: int,
    log: str | os.PathLike[str] | None = None,
    method: str | Method = "gausstune",
    seed: int = 0,
    early_stopping: int | None = None,
    time_limit: float | None = None,
    history: Paths | Sequence[Record] | None = None,
    pretrained: Pretrained = True,
    measurer: Measurer | None = None,
    callbacks: Sequence[Callable[[Progress], None]] = (),
    progress: bool = True,
    enlarged: bool = True,
) -> NetworkResult:
    """Tune the tasks of a network; each round of measurements goes where it promises to shorten the network most.

    TVM's default schedule of every task is measured first, beyond the budget, so no task becomes slower. The same seed and the
    same measurements lead to the same rounds and proposals: started again with its folder, a tuning that was killed, or that is
    given a larger budget, measures only what is missing.

    **Arguments:**

    - `model`: a `Network`, an `Extraction`, or whatever `load_network` reads.
    - `target`: "llvm" (this machine's CPU, what is meant by None), "cuda", or a TVM target; an `Extraction` has its own.
    - `trials`: the budget of measurements of all tasks together; see `search.allocation` for who gets how many.
    - `log`: a folder for every measurement and for what was tuned how; see `tvm_bridge.network.folder`.
    - `early_stopping`: stop a task after so many of its measurements without a new best; the others share the rest.
    - `time_limit`: stop after so many seconds, counted from when the default schedules have been measured.
    - `history`: records of other networks or tasks, or paths of logs or folders, for the methods that learn from them.
    - `pretrained`: as `tune` takes it, for every task; a folder has a model for each operator, a single one must fit them all.
      A task of which the history knows nothing begins with what ships.
    - `measurer`: `Local(...)`, `RPC(...)` or one's own; None for each task's, or else one `Local` for all, closed at the end.
    - `callbacks`: called with a `Progress` of its task after every measurement; its record's key says of which.
    - `progress`: show progress: a bar on a terminal, lines elsewhere.
    - `enlarged`: choose among all that the templates can do; an `Extraction` has its own choice.
    - `method`, `seed`: as `tune` takes them.

    **Raises:** `ValueError` for an argument out of range, a network without tasks, a folder of another tuning, or records of
    another device; `DeviceError` if the target has no device here. A task for which nothing works is reported, and stops no
    other. Ctrl-C passes through; the folder keeps every finished measurement.
    """
    check_limits(trials=trials, early_stopping=early_stopping, time_limit=time_limit, seed=seed)
    propose = proposer(method, seed=seed, learns=history is not None, pretrained=pretrained)
    extraction = extraction_of(model, target, enlarged=enlarged)
    name, tasks = extraction.network.name, extraction.tasks
    if not tasks:
        raise ValueError(
            f"model: {name} has no operator that a template covers on {extraction.target.kind}; nothing can be tuned."
        )
    taught = None if history is None else gather("history", history)
    begun = [propose(each.task, known) for each, known in zip(tasks, _known(tasks, taught), strict=True)]
    searches, models = zip(*begun, strict=True)
    asked = {
        "model": extraction.network.source or None,
        "shapes": {name: list(shape) for name, shape in extraction.network.shapes.items()} or None,
        "layout": extraction.network.layout or None,
        "history": _paths(history),
        "pretrained": _path(pretrained),
        "early_stopping": early_stopping,
        "time_limit": time_limit,
    }
    description = describe(
        extraction,
        method=_named(method),
        seed=seed,
        trials=trials,
        history=taught,
        pretrained=digest(models),
        asked=asked,
    )
    folder = None if log is None else Folder(log, description)
    with ExitStack() as stack:
        sessions = _sessions(tasks, measurer, folder, trials, stack)
        show = stack.enter_context(reporter(name, tasks, sessions, trials)) if progress else None
        for number, session in enumerate(sessions):
            session.callbacks = [*([partial(show, number)] if show else []), *callbacks]
        for session in sessions:
            session.measure_default()
        deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
        drivers = [
            stack.enter_context(Driver(each, session.measure, early_stopping=early_stopping, deadline=deadline))
            for each, session in zip(searches, sessions, strict=True)
        ]
        rounds = _Rounds(tasks, sessions, drivers, folder, deadline)
        spent = allocate(rounds.claimants(), trials, rounds.spend, key=jax.random.key(seed))
    return rounds.result(extraction, "trials" if spent == trials else rounds.stopped())


@dataclass(frozen=True)
class _Rounds:
    """The rounds of all tasks: each has its measurements and its search."""

    tasks: Sequence[NetworkTask]
    sessions: Sequence[Session]
    drivers: Sequence[Driver]
    folder: Folder | None
    deadline: float

    def claimants(self) -> list[Claimant]:
        """The tasks as the allocation sees them, after their default schedules were measured."""
        return [
            Claimant(each.count, session.default_seconds, each.task.flop, _kind(each.task))
            for each, session in zip(self.tasks, self.sessions, strict=True)
        ]

    def spend(self, number: int, size: int) -> Outcome:
        """A round of one task; none after the time limit, unless nothing is measured yet."""
        driver, session = self.drivers[number], self.sessions[number]
        if time.perf_counter() > self.deadline and any(each.trials for each in self.drivers):
            return Outcome(0, session.best_seconds, finished=True)
        searching, measuring = driver.seconds_searching, driver.seconds_measuring
        measured = driver.advance(size)
        if self.folder is not None and measured:
            self.folder.append(
                Round(
                    self.tasks[number].task.name,
                    measured,
                    driver.seconds_searching - searching,
                    driver.seconds_measuring - measuring,
                    session.best_seconds,
                    predicted(self.tasks, self.sessions)[1],
                )
            )
        return Outcome(measured, session.best_seconds, bool(driver.stopped))

    def stopped(self) -> str:
        """Why no task wanted the rest of the budget."""
        reasons = {driver.stopped or "time limit" for driver in self.drivers}
        return next(reason for reason in ("time limit", "early stopping", "exhausted") if reason in reasons)

    def result(self, extraction: Extraction, stopped: str) -> NetworkResult:
        """What was found, also for tasks for which nothing works."""
        tuned = []
        for each, session, driver in zip(self.tasks, self.sessions, self.drivers, strict=True):
            found, failure = None, ""
            try:
                found = session.result(driver.run(driver.stopped or stopped))
            except TuningError as error:
                failure = str(error)
            tuned.append(TunedTask(each.task, each.count, each.functions, found, failure))
        return NetworkResult(
            extraction.network.name,
            tuple(tuned),
            dict(extraction.uncovered),
            sum(driver.seconds_searching for driver in self.drivers),
            sum(driver.seconds_measuring for driver in self.drivers) + sum(each.spent_on_default for each in self.sessions),
            stopped,
        )


def _sessions(
    tasks: Sequence[NetworkTask], measurer: Measurer | None, folder: Folder | None, trials: int, stack: ExitStack
) -> list[Session]:
    """The measurements of every task, on one `Local` for all that have no measurer of their own."""
    if measurer is None and not all(each.task.measurer for each in tasks):
        local = stack.enter_context(Local())
    chosen = [measurer or each.task.measurer or local for each in tasks]
    log = None if folder is None else folder.records
    return [Session(each.task, its, log, trials) for each, its in zip(tasks, chosen, strict=True)]


def _known(tasks: Sequence[NetworkTask], history: Sequence[Record] | None) -> list[list[Source]]:
    """What is known of tasks like each; a history need not have some for all."""
    if history is None:
        return [[] for _ in tasks]
    known = [find_sources(history, each.task) for each in tasks]
    if not any(known):
        raise ValueError("history: it holds no record of another task with an operator of the network to learn from.")
    return known


def _kind(task: Task) -> Hashable:
    """What tasks of about the same speed have in common: the operator, and of a convolution its kernel and stride."""
    workload = task.workload
    return (task.operator, *((workload.weight[2:], workload.stride) if isinstance(workload, Conv2d) else ()))


def _named(method: str | Method) -> str:
    """The method's name, and of a `functools.partial` the options that are told in a word or a number."""
    if isinstance(method, partial):
        told = (f"{name}={value!r}" if isinstance(value, _TOLD) else name for name, value in method.keywords.items())
        return f"{_named(method.func)}({', '.join(told)})"
    return method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__)


def _paths(history: Paths | Sequence[Record] | None) -> list[str] | None:
    """The paths of a history; None if there is none, or if records are among them."""
    items = [history] if isinstance(history, str | os.PathLike) else list(history or ())
    paths = [os.fspath(item) for item in items if not isinstance(item, Record)]
    return paths if paths and len(paths) == len(items) else None


def _path(pretrained: Pretrained) -> str | None:
    """What the command line calls the model to begin with; None for what ships, or a model that has no path."""
    if isinstance(pretrained, str | os.PathLike):
        return os.fspath(pretrained)
    return "none" if pretrained is False else None
