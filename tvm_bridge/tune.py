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
from tvm_bridge.pretrained import Pretrained, model_for
from tvm_bridge.progress import Progress, reporter
from tvm_bridge.record_log import RecordLog
from tvm_bridge.records import Paths, Record
from tvm_bridge.session import Session, TuneResult
from tvm_bridge.task import Task

if TYPE_CHECKING:
    from search.driver import Search
    from search.history import Source
    from search.methods import Method
    from surrogates import Surrogate


def tune(
    task: Task,
    *,
    method: str | Method = "gausstune",
    trials: int = 64,
    log: str | os.PathLike[str] | None = None,
    history: Paths | Sequence[Record] | None = None,
    pretrained: Pretrained = True,
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
    A history, and a model that was fitted before, have to be the same too.

    **Arguments:**

    - `task`: what to tune.
    - `method`: a method's name (`methods()` lists them), or a function `(space, *, key)` that returns a coroutine.
    - `trials`: the budget of measurements; what the log holds already counts.
    - `log`: a file that every measurement is appended to at once, `.jsonl` or `.jsonl.gz`; what it holds is not measured again.
    - `history`: records of other tasks, or paths of logs, for the methods that learn from them.
    - `pretrained`: what methods that can begin with a fitted model begin with: True for the model that ships for this operator
      and family of devices, if there is one and no history; False for none; a saved model, a folder of them, or a fitted
      surrogate, with a history too if the method can use both. See `tvm_bridge.pretrained`.
    - `seed`: of everything random.
    - `early_stopping`: stop after so many measurements without a new best.
    - `time_limit`: stop after so many seconds, not counting the default schedule.
    - `measurer`: `Local(...)`, `RPC(...)` or one's own; None for the task's, or else a `Local` closed at the end.
    - `callbacks`: called with a `Progress` after every measurement.
    - `progress`: show a progress bar on a terminal, AutoTVM's line elsewhere; (3, 12) says that this is task 3 of 12.

    **Raises:** `ValueError` for an argument out of range, a log of another device or a model that does not fit, `DeviceError`
    if the target has no device here, `TuningError` if nothing that was tried works. Ctrl-C passes through; the log keeps every
    finished measurement.
    """
    check_limits(trials=trials, early_stopping=early_stopping, time_limit=time_limit, seed=seed)
    propose = proposer(method, seed=seed, learns=history is not None, pretrained=pretrained)
    proposals, _ = propose(task, [] if history is None else sources(history, task))
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


def proposer(
    method: str | Method, *, seed: int, learns: bool, pretrained: Pretrained = True
) -> Callable[[Task, Sequence[Source]], tuple[Search, Surrogate | None]]:
    """Find the method: a function of a task, and what is known of others, that starts a search.

    It also says with which fitted model the search begins, if with any. One that ships gives way to what is known of others.

    **Raises:** `ValueError` if there is no such method, or it does not learn from other tasks although there is a history, or
    takes no fitted model although one is given.
    """
    # here: they load the surrogates, which builders never need
    from search.methods import find, learns_from_history, takes_model

    make = find(method)
    learner, beginner = learns_from_history(make), takes_model(make)
    if learns and not learner:
        raise ValueError(f"history: method {method!r} does not learn from other tasks; leave `history` out.")
    if not (beginner or isinstance(pretrained, bool)):
        named = method if isinstance(method, str) else getattr(method, "__name__", type(method).__name__)
        raise ValueError(f"pretrained: method {named!r} takes no fitted model, or has one already; leave `pretrained` out.")
    keep_compiled()

    def propose(task: Task, known: Sequence[Source]) -> tuple[Search, Surrogate | None]:
        model = model_for(task, pretrained) if beginner and not (known and pretrained is True) else None
        options: dict[str, Any] = {"history": known} if learner else {}
        options |= {} if model is None else {"pretrained": model}
        return make(task.space, key=jax.random.key(seed), **options), model

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
