"""The driver that runs every search method: budget, early stopping and time limit live here and in no method.

A method is a coroutine. It yields a batch of configurations and receives their throughput, 0.0 for those that failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int

Batch = Int[np.ndarray, "n knobs"]
Throughput = Float[np.ndarray, " n"]
Search: TypeAlias = Generator[Batch, Throughput, None]
Measure: TypeAlias = Callable[[Batch], Generator[tuple[int, float]]]


@dataclass(frozen=True)
class Run:
    """How a search went.

    - `stopped`: why it ended: "trials", "exhausted", "early stopping" or "time limit".
    - `trials`: configurations whose throughput the method asked for.
    - `seconds_searching`, `seconds_measuring`: time spent in the method and in `measure`.
    """

    stopped: str
    trials: int
    seconds_searching: float
    seconds_measuring: float


def run(
    search: Search,
    measure: Measure,
    *,
    trials: int,
    early_stopping: int | None = None,
    time_limit: float | None = None,
) -> Run:
    """Run a search method to the end of its budget.

    **Arguments:**

    - `search`: the method's coroutine, not yet started.
    - `measure`: takes a batch and yields `(row, throughput)` as results arrive, in any order; closed early at the time limit.
    - `trials`: the budget: how many configurations may be measured.
    - `early_stopping`: stop after so many measurements in a row without a new best. A batch is cut where this could happen, so
      that the end depends on the measured values alone and a resumed run ends where an undisturbed one does.
    - `time_limit`: stop after so many seconds, but not before the first result; what is under way is dropped.

    **Returns:** why and when it ended.

    **Raises:** `ValueError` if the method yields an empty batch, which could go on for ever.
    """
    started = time.perf_counter()
    searching = measuring = 0.0
    done, best, best_at = 0, 0.0, 0
    results = None

    def over() -> str:
        if done >= trials:
            return "trials"
        if early_stopping is not None and done >= best_at + early_stopping:
            return "early stopping"
        return "time limit" if done and late() else ""

    def late() -> bool:
        return time_limit is not None and time.perf_counter() - started > time_limit

    with closing(search):
        while not over():  # a method may think for minutes: it is not asked for what nobody will measure
            before = time.perf_counter()
            try:
                batch = np.atleast_2d(np.asarray(search.send(results) if results is not None else next(search)))
            except StopIteration:
                return Run("exhausted", done, searching + time.perf_counter() - before, measuring)
            searching += time.perf_counter() - before
            if batch.size == 0:
                raise ValueError("search: the method yielded an empty batch; it must return when it has nothing to propose.")
            results = np.zeros(len(batch))
            first = 0
            while first < len(batch) and not over():
                room = trials - done
                if early_stopping is not None:
                    room = min(room, best_at + early_stopping - done)
                part = batch[first : first + room]
                before = time.perf_counter()
                finished = 0
                with closing(measure(part)) as arriving:
                    for row, throughput in arriving:
                        results[first + row] = throughput
                        finished += 1
                        if late():
                            break
                measuring += time.perf_counter() - before
                if finished < len(part):
                    return Run("time limit", done + finished, searching, measuring)
                for throughput in results[first : first + len(part)]:
                    done += 1
                    if throughput > best:
                        best, best_at = throughput, done
                first += len(part)
    return Run(over(), done, searching, measuring)
