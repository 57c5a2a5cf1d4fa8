"""The path of candidates through builder and runner processes: one event loop, no threads.

A candidate waits, is built, is run, and leaves as a `Measurement`. A crash, a hang or a lost device costs the process it
happened in; the time limits count from the start of the work. Where other processes measure on the same device, a run waits for
its turn before it starts.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from tvm_bridge.measure import jobs
from tvm_bridge.measure.base import DeviceError, ErrorCategory, Measurement
from tvm_bridge.measure.device_lock import PAUSE, DeviceLock
from tvm_bridge.measure.process import Outcome, Worker

PATIENCE = 6
"""TVM's default schedule may be this much slower than the limits allow: it is measured once, and all others against it."""

ATTEMPTS = 3
"""Devices a candidate is tried on, and processes that may die as they start, before the failure counts."""

PREPARATION_LIMIT = 300.0
"""Seconds to wait for the reference result and for a device."""

AHEAD = 8
"""Candidates built ahead of the runners, for each builder: what a kill can cost in builds."""


@dataclass(frozen=True)
class Limits:
    """Seconds a build and a run may take, counted from their start."""

    build: float = 10.0
    run: float = 10.0

    def __post_init__(self) -> None:
        for name in ("build", "run"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}_limit: {getattr(self, name)} seconds must be more than 0.")


@dataclass
class _Runner:
    worker: Worker
    prepared: jobs.Subject | None = None


@dataclass
class _Flow:
    """Where the candidates of one call are."""

    subject: jobs.Subject
    configs: Sequence[dict[str, Any] | None]
    waiting: deque[int]
    left: int
    ready: deque[int] = field(default_factory=deque)
    built: dict[int, tuple[jobs.Built, float]] = field(default_factory=dict)
    losses: Counter[int] = field(default_factory=Counter)
    building: bool = True


class Pipeline:
    """Builders and runners with the candidates between them.

    **Arguments:**

    - `builders`, `runners`: processes; a runner holds one device at a time.
    - `folder`: where libraries are written, private to the caller; `suffix` is their kind.
    - `limits`, `timing`: time limits, and how a kernel is timed.
    - `tracker`: where runners ask for a device, once a candidate; None for the local device.
    - `overlap`: build while running. On this machine's CPU a compiler at work disturbs the timing, so phases alternate.
    - `lock`: held while the one runner runs a candidate; None where other processes may measure at the same time.
    """

    def __init__(
        self,
        builders: Sequence[Worker],
        runners: Sequence[Worker],
        *,
        folder: str,
        suffix: str,
        limits: Limits,
        timing: jobs.Timing,
        tracker: jobs.Tracker | None,
        overlap: bool,
        lock: DeviceLock | None = None,
    ) -> None:
        self._builders = list(builders)
        self._runners = [_Runner(worker) for worker in runners]
        self._folder, self._suffix = folder, suffix
        self._limits, self._timing = limits, timing
        self._tracker, self._overlap, self._lock = tracker, overlap, lock
        self._serial = itertools.count()
        self._name = f"{tracker.key} (RPC)" if tracker else ""
        self._refusals = 0
        for worker in self._workers:
            worker.start()  # all at once: each takes a second or two to load

    @property
    def _workers(self) -> list[Worker]:
        return [*self._builders, *(runner.worker for runner in self._runners)]

    def device(self, subject: jobs.Subject) -> str:
        """Name the device that runs the subject.

        **Raises:** `DeviceError` if there is none.
        """
        runner = self._runners[0]
        while not self._name:
            self._note(runner, subject, runner.worker.call(jobs.prepare, *self._preparation(subject), limit=PREPARATION_LIMIT))
        return self._name

    def stream(self, subject: jobs.Subject, configs: Sequence[dict[str, Any] | None]) -> Generator[tuple[int, Measurement]]:
        """Yield `(position, measurement)` as candidates finish.

        **Raises:** `DeviceError` if no device can be had any more, `RuntimeError` if another stream is still open.
        """
        if any(worker.busy for worker in self._workers):
            raise RuntimeError("measurer: it is still measuring for another stream; finish that one or close it.")
        flow = _Flow(subject, configs, deque(range(len(configs))), len(configs))
        try:
            while flow.left:
                self._assign(flow)
                for finished in self._collect(flow):
                    flow.left -= 1
                    yield finished
        finally:
            for worker in self._workers:
                if worker.busy:
                    worker.stop()
            self._let_go()
            for built, _ in flow.built.values():
                _remove(built.path)

    def _assign(self, flow: _Flow) -> None:
        """Give idle processes their next jobs."""
        running = any(runner.worker.busy for runner in self._runners)
        compiling = any(builder.busy for builder in self._builders)
        chunk = AHEAD * len(self._builders)
        if flow.building and not compiling and (len(flow.ready) >= chunk or not flow.waiting):
            flow.building = False
        elif not flow.building and not running and not flow.ready:
            flow.building = True
        if self._overlap or (flow.building and not running):
            for builder in self._builders:
                if not builder.busy and flow.waiting and len(flow.ready) < chunk:
                    position = flow.waiting.popleft()
                    path = os.path.join(self._folder, f"{next(self._serial)}{self._suffix}")
                    builder.submit(position, jobs.build, flow.subject, flow.configs[position], path, limit=self._limits.build)
        if self._overlap or not flow.building:
            for runner in self._runners:
                if not runner.worker.busy and flow.ready:
                    self._advance(runner, flow.ready.popleft(), flow)

    def _advance(self, runner: _Runner, position: int, flow: _Flow) -> None:
        """Give a runner a candidate; one that is not prepared for the subject, or has died since, is prepared first.

        A candidate whose turn has not come goes back: the limit of its run must not count the waiting.
        """
        if runner.prepared == flow.subject and runner.worker.alive:
            if self._lock is not None and not self._lock.acquire():
                flow.ready.appendleft(position)
                return
            limit = self._limits.run * (PATIENCE if flow.configs[position] is None else 1)
            job = (jobs.run, flow.built[position][0], flow.subject.target.kind, self._timing)
            if runner.worker.submit(position, *job, limit=limit, restart=False):
                return
        self._let_go()
        runner.prepared = None
        runner.worker.submit(position, jobs.prepare, *self._preparation(flow.subject), limit=PREPARATION_LIMIT)

    def _let_go(self) -> None:
        """Let other processes measure on the device."""
        if self._lock is not None:
            self._lock.release()

    def _preparation(self, subject: jobs.Subject) -> tuple[Any, ...]:
        return subject, self._tracker, PATIENCE * self._limits.run + 30, self._timing.check, self._folder

    def _collect(self, flow: _Flow) -> Generator[tuple[int, Measurement]]:
        """Wait until a process says something or runs out of time, and yield the candidates that are finished."""
        busy = [worker for worker in self._workers if worker.busy]
        waiting = self._lock is not None and self._lock.waiting
        patience = min((worker.deadline for worker in busy), default=math.inf) - time.monotonic()
        wait([worker.connection for worker in busy], timeout=PAUSE if waiting else max(0.0, patience) + 0.01)
        for builder in self._builders:
            position = builder.job
            if builder.busy and (outcome := builder.poll()):
                failure = self._built(position, outcome, flow)
                if failure:
                    yield position, failure
        for runner in self._runners:
            position = runner.worker.job
            if runner.worker.busy and (outcome := runner.worker.poll()):
                if runner.prepared is None:
                    if self._note(runner, flow.subject, outcome):
                        self._advance(runner, position, flow)
                    else:
                        flow.ready.appendleft(position)
                else:
                    measurement = self._ran(runner, position, outcome, flow)
                    self._let_go()
                    if measurement:
                        yield position, measurement

    def _built(self, position: int, outcome: Outcome, flow: _Flow) -> Measurement | None:
        if isinstance(outcome.value, jobs.Built):
            flow.built[position] = outcome.value, outcome.seconds
            flow.ready.append(position)
            return None
        flow.losses[position] += not outcome.started
        if not outcome.started and flow.losses[position] < ATTEMPTS:
            flow.waiting.appendleft(position)
            return None
        categories = {"timeout": ErrorCategory.BUILD_TIMEOUT, "crash": ErrorCategory.COMPILE_HOST}
        return self._failure(outcome, categories, outcome.seconds)

    def _note(self, runner: _Runner, subject: jobs.Subject, outcome: Outcome) -> bool:
        """Whether a runner has its device and the reference; refusals in a row are counted, and the last one raised."""
        if isinstance(outcome.value, str):
            runner.prepared, self._name, self._refusals = subject, outcome.value, 0
            return True
        self._refusals += 1
        absent = self._tracker is None and isinstance(outcome.value, jobs.Unreachable)  # asking again would not help
        if absent or self._refusals >= ATTEMPTS * len(self._runners):
            self._refusals = 0
            if isinstance(outcome.value, jobs.Unreachable):
                raise DeviceError(outcome.value.message)
            place = (
                f"a device {self._tracker.key!r} of the tracker" if self._tracker else f"this machine's {subject.target.kind}"
            )
            raise DeviceError(f"{place} could not be prepared ({outcome.message}); is it in use, or short of memory?")
        return False

    def _ran(self, runner: _Runner, position: int, outcome: Outcome, flow: _Flow) -> Measurement | None:
        """The result of a run, or None if the device was lost and the candidate is to be tried on another."""
        if self._tracker is not None:
            runner.prepared = None
            # A powered-off server looks like a hang: a time-out gets a second chance, a broken link a third.
            lost = isinstance(outcome.value, jobs.Unreachable) or outcome.failure == "crash"
            flow.losses[position] += ATTEMPTS - 1 if outcome.failure == "timeout" else lost
            if (lost or outcome.failure == "timeout") and flow.losses[position] < ATTEMPTS:
                flow.ready.appendleft(position)
                return None
        built, seconds = flow.built.pop(position)
        _remove(built.path)
        seconds += outcome.seconds
        if isinstance(outcome.value, list):
            return Measurement(tuple(outcome.value), all_cost=seconds, timestamp=time.time(), device=self._name)
        if not (isinstance(outcome.value, jobs.Failure) and outcome.value.error is ErrorCategory.UNKNOWN):  # which was not run
            runner.worker.stop()  # it may have written where it should not, and an error poisons the context of a GPU
        categories = {"timeout": ErrorCategory.RUN_TIMEOUT, "crash": ErrorCategory.RUNTIME_DEVICE}
        return self._failure(outcome, categories, seconds)

    def _failure(self, outcome: Outcome, categories: dict[str, ErrorCategory], seconds: float) -> Measurement:
        if isinstance(outcome.value, jobs.Failure):
            error, message = outcome.value.error, outcome.value.message
        elif isinstance(outcome.value, jobs.Unreachable):
            error, message = ErrorCategory.RUNTIME_DEVICE, f"failed on {ATTEMPTS} devices, last: {outcome.value.message}"
        else:
            error, message = categories.get(outcome.failure, ErrorCategory.UNKNOWN), outcome.message
        return Measurement((), error, message, seconds, time.time(), self._name)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
