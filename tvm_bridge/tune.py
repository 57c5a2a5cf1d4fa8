"""`tune`: find the fastest configuration of a task within a budget of measurements, resumably."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import jax

import search
from tvm_bridge.compilation_cache import keep_compiled
from tvm_bridge.history import sources
from tvm_bridge.measure.base import Measurer, TuningError
from tvm_bridge.measure.local import Local
from tvm_bridge.progress import Progress, reporter
from tvm_bridge.record_log import RecordLog
from tvm_bridge.records import Paths, Record
from tvm_bridge.session import Session, TuneResult
from tvm_bridge.task import Task

if TYPE_CHECKING:
    from search.driver import Search
    from search.history import Source
    from search.methods import Method


def tune(
    task: Task,
    *,
    method: str | Method = "gausstune",
    trials: int = 64,
    log: str | os.PathLike[str] | None = None,
    history: Paths | Sequence[Record] | None = None,
    seed: int = 0,
    early_stopping: int | None = None,
    time_limit: float | None = None,
    measurer: Measurer | None = None,
    callbacks: Sequence[Callable[[Progress], None]] = (),
    progress: bool | tuple[int, int] = True,
) -> TuneResult:
    """Find the fastest configuration of a task.

    TVM's default schedule is measured first, beyond the budget, so the result is never slower. The same seed and the same
    measurements lead to the same proposals: started again with its log, a search that was killed measures only what is missing.

    **Arguments:**

    - `task`: what to tune.
    - `method`: a method's name (`methods()` lists them), or a function `(space, *, key)` that returns a coroutine.
    - `trials`: the budget of measurements; what the log holds already counts.
    - `log`: a file that every measurement is appended to at once, `.jsonl` or `.jsonl.gz`; what it holds is not measured again.
    - `history`: records of other tasks, or paths of logs, for the methods that learn from them.
    - `seed`: of everything random.
    - `early_stopping`: stop after so many measurements without a new best.
    - `time_limit`: stop after so many seconds, not counting the default schedule.
    - `measurer`: `Local(...)`, `RPC(...)` or one's own; None for the task's, or else a `Local` closed at the end.
    - `callbacks`: called with a `Progress` after every measurement.
    - `progress`: show a progress bar on a terminal, AutoTVM's line elsewhere; (3, 12) says that this is task 3 of 12.

    **Raises:** `ValueError` for an argument out of range or a log of another device, `DeviceError` if the target has no device
    here, `TuningError` if nothing that was tried works. Ctrl-C passes through; the log keeps every finished measurement.
    """
    check_limits(trials=trials, early_stopping=early_stopping, time_limit=time_limit, seed=seed)
    propose = proposer(method, seed=seed, learns=history is not None)
    proposals = propose(task, [] if history is None else sources(history, task))
    with ExitStack() as stack:
        if measurer is None:
            measurer = task.measurer or stack.enter_context(Local())
        session = Session(task, measurer, RecordLog(log) if log is not None else None, trials)
        report = stack.enter_context(reporter(task, trials, progress)) if progress else None
        session.callbacks = [*([report] if report else []), *callbacks]
        session.measure_default()
        run = search.run(
            proposals,
            session.measure,
            trials=trials,
            early_stopping=early_stopping,
            time_limit=time_limit,
        )
    return session.result(run)


def check_limits(*, trials: int, early_stopping: int | None, time_limit: float | None, seed: int) -> None:
    """Refuse limits that are not above 0 and seeds that JAX would fold onto others."""
    for name, value in (("trials", trials), ("early_stopping", early_stopping), ("time_limit", time_limit)):
        if value is not None and not value > 0:
            raise ValueError(f"{name}: {value} must be greater than 0.")
    if not 0 <= seed < 1 << 32:
        raise ValueError(f"seed: {seed} must lie in 0 .. {(1 << 32) - 1}.")


def proposer(method: str | Method, *, seed: int, learns: bool) -> Callable[[Task, Sequence[Source]], Search]:
    """Find the method: a function of a task, and what is known of others, that starts a search.

    **Raises:** `ValueError` if there is no such method, or it does not learn from other tasks although there is a history.
    """
    from search.methods import find, learns_from_history  # here: they load the surrogates, which builders never need

    make = find(method)
    learner = learns_from_history(make)
    if learns and not learner:
        raise ValueError(f"history: method {method!r} does not learn from other tasks; leave `history` out.")
    keep_compiled()

    def propose(task: Task, known: Sequence[Source]) -> Search:
        options: dict[str, Any] = {"history": known} if learner else {}
        return make(task.space, key=jax.random.key(seed), **options)

    return propose


def default_seconds(task: Task, *, measurer: Measurer | None = None) -> float:
    """Measure TVM's default schedule of a task: the median seconds of one run.

    **Raises:** `DeviceError` if the target has no device here, `TuningError` if the schedule does not work, `LookupError` for a
    replayed task.
    """
    with ExitStack() as stack:
        measurer = measurer or task.measurer or stack.enter_context(Local())
        ((_, measurement),) = measurer.stream(task, [None])
    if not measurement.ok:
        raise TuningError(f"{task.name}: TVM's default schedule failed: {measurement.error.name}, {measurement.message}.")
    return measurement.cost


def methods() -> tuple[str, ...]:
    """The names of the search methods."""
    from search.methods import METHODS

    return tuple(METHODS)
