"""What measuring means: the result of one candidate, its error categories, and the protocol of all measurers."""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Self

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    from search.knobs import Config
    from tvm_bridge.task import Task


class DeviceError(RuntimeError):
    """The device a task is for cannot be used; the message says why and what would work."""


class TuningError(RuntimeError):
    """Nothing that was tried works; the message counts the failures by category."""


class ErrorCategory(IntEnum):
    """Why a candidate has no time; the numbers are AutoTVM's."""

    NO_ERROR = 0
    INSTANTIATION = 1  # the schedule could not be made, or the device refuses it before it runs
    COMPILE_HOST = 2
    COMPILE_DEVICE = 3
    RUNTIME_DEVICE = 4
    WRONG_ANSWER = 5
    BUILD_TIMEOUT = 6
    RUN_TIMEOUT = 7
    UNKNOWN = 8


@dataclass(frozen=True)
class Measurement:
    """The result of measuring one candidate.

    - `seconds`: time of one run, once a repeat; empty if the candidate failed.
    - `error`, `message`: the category and the words of a failure.
    - `all_cost`: seconds spent building and running the candidate.
    - `timestamp`: when it ended, seconds since the epoch.
    - `device`: what it ran on.
    """

    seconds: tuple[float, ...] = ()
    error: ErrorCategory = ErrorCategory.NO_ERROR
    message: str = ""
    all_cost: float = 0.0
    timestamp: float = 0.0
    device: str = ""

    def __post_init__(self) -> None:
        if (self.error is ErrorCategory.NO_ERROR) != bool(self.seconds):
            raise ValueError(f"seconds, error: {self.seconds} and {self.error.name} contradict each other; give one of them.")

    @property
    def ok(self) -> bool:
        """Whether there is a time."""
        return self.error is ErrorCategory.NO_ERROR

    @property
    def cost(self) -> float:
        """The median of the repeats in seconds, infinite if the candidate failed."""
        return statistics.median(self.seconds) if self.ok else float("inf")


class Measurer(ABC):
    """Measures candidates of a task. Use it as a context manager, or call `close`.

    `has_default` tells whether it can measure TVM's default schedule too.
    """

    has_default: bool = True

    @abstractmethod
    def device(self, task: Task) -> str:
        """Name the device that will measure the task.

        **Raises:** `DeviceError` if there is none.
        """

    @abstractmethod
    def stream(self, task: Task, configs: Sequence[Config | None]) -> Generator[tuple[int, Measurement]]:
        """Yield `(position, measurement)` as results arrive, in any order; None stands for TVM's default schedule.

        Closing the iterator drops what is under way.
        """

    def measure(self, task: Task, knobs: Int[np.ndarray, "n knobs"]) -> list[Measurement]:
        """Measure configurations and return their results in order."""
        results = dict(self.stream(task, [task.space.to_config(row) for row in knobs]))
        return [results[position] for position in range(len(knobs))]

    def close(self) -> None:  # noqa: B027 - not every measurer holds something
        """Release processes and files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
