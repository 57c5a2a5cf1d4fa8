"""The driver that runs every search method: budget, early stopping and time limit live here and in no method.

A method is a coroutine. It yields a batch of configurations and receives their throughput, 0.0 for those that failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Self, TypeAlias

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

    - `search`, `measure`, `early_stopping`: as `Driver` takes them.
    - `trials`: the budget: how many configurations may be measured.
    - `time_limit`: stop after so many seconds, but not before the first result.

    **Returns:** why and when it ended.

    **Raises:** `ValueError` if the method yields an empty batch, which could go on for ever.
    """
    deadline = None if time_limit is None else time.perf_counter() + time_limit
    with Driver(search, measure, early_stopping=early_stopping, deadline=deadline) as driver:
        spent = driver.advance(trials)
        return driver.run("trials" if spent == trials else driver.stopped)


class Driver:
    """Runs a search method piece by piece; close it, or use it as a context manager, to close the method.

    What is measured depends on the measured values alone, not on the pieces: a batch that does not fit into one is gone on with
    in the next, and the method hears of a batch when all of it is measured.

    **Arguments:**

    - `search`: the method's coroutine, not yet started.
    - `measure`: takes a batch and yields `(row, throughput)` as results arrive, in any order; closed early at the deadline.
    - `early_stopping`: end after so many measurements in a row without a new best. A batch is cut where this could happen, so
      that the end depends on the measured values alone and a resumed run ends where an undisturbed one does.
    - `deadline`: the `time.perf_counter()` to end at, but not before the first result; what is under way is dropped.

    **Attributes:**

    - `trials`, `best`: configurations measured so far, and the highest throughput among them, 0.0 if there is none.
    - `seconds_searching`, `seconds_measuring`: time spent in the method and in `measure`.
    """

    def __init__(
        self, search: Search, measure: Measure, *, early_stopping: int | None = None, deadline: float | None = None
    ) -> None:
        self.trials, self.best = 0, 0.0
        self.seconds_searching = self.seconds_measuring = 0.0
        self._search, self._measure = search, measure
        self._early_stopping, self._deadline = early_stopping, deadline
        self._best_at = 0
        self._batch, self._results, self._next = np.empty((0, 0)), np.empty(0), 0
        self._asked, self._ended = False, ""

    @property
    def stopped(self) -> str:
        """Why there is nothing more to be had: "exhausted", "early stopping" or "time limit"; empty while there is."""
        if self._ended:
            return self._ended
        if self._early_stopping is not None and self.trials >= self._best_at + self._early_stopping:
            return "early stopping"
        return "time limit" if self.trials and self._late() else ""

    def advance(self, trials: int) -> int:
        """Measure up to so many more configurations; returns how many it were, fewer only if the search has stopped.

        **Raises:** `ValueError` if the method yields an empty batch, which could go on for ever; `RuntimeError` if `measure`
        leaves a configuration without a result.
        """
        before, goal = self.trials, self.trials + trials
        while self.trials < goal and not self.stopped:  # a method may think for minutes: not for what nobody will measure
            if self._next < len(self._batch):
                self._measure_part(goal - self.trials)
            else:
                self._propose()
        return self.trials - before

    def run(self, stopped: str) -> Run:
        """How it went so far, ended for this reason."""
        return Run(stopped, self.trials, self.seconds_searching, self.seconds_measuring)

    def close(self) -> None:
        """Close the method."""
        self._search.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _propose(self) -> None:
        """Tell the method of its last batch and ask for the next."""
        before = time.perf_counter()
        try:
            batch = self._search.send(self._results) if self._asked else next(self._search)
        except StopIteration:
            self._ended = "exhausted"
            return
        finally:
            self.seconds_searching += time.perf_counter() - before
        self._asked = True
        self._batch, self._next = np.atleast_2d(np.asarray(batch)), 0
        if self._batch.size == 0:
            raise ValueError("search: the method yielded an empty batch; it must return when it has nothing to propose.")
        self._results = np.zeros(len(self._batch))

    def _measure_part(self, room: int) -> None:
        """Measure the next of the batch, at most `room`."""
        if self._early_stopping is not None:
            room = min(room, self._best_at + self._early_stopping - self.trials)
        first, part = self._next, self._batch[self._next : self._next + room]
        before = time.perf_counter()
        finished = 0
        with closing(self._measure(part)) as arriving:
            for row, throughput in arriving:
                self._results[first + row] = throughput
                finished += 1
                if self._late():
                    break
        self.seconds_measuring += time.perf_counter() - before
        arrived = self._results[first : first + len(part)]
        if finished < len(part):
            if not self._late():
                raise RuntimeError(
                    f"measure: it gave {finished} results for {len(part)} configurations; it must answer for each."
                )
            self.trials += finished
            self.best = max(self.best, float(arrived.max()))
            self._ended = "time limit"
            return
        for throughput in arrived:
            self.trials += 1
            if throughput > self.best:
                self.best, self._best_at = float(throughput), self.trials
        self._next += len(part)

    def _late(self) -> bool:
        return self._deadline is not None and time.perf_counter() > self._deadline
