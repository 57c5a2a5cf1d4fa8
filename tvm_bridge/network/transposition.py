"""What a change of layout costs: transpositions as workloads, measured under the plain schedule of compiled networks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from search import KnobSpace, Option
from tvm_bridge.measure.base import Measurer, TuningError
from tvm_bridge.measure.local import Local
from tvm_bridge.network import untuned
from tvm_bridge.record_log import RecordLog
from tvm_bridge.records import DEFAULT_INDEX, Record
from tvm_bridge.target import Target
from tvm_bridge.task import Task


@dataclass(frozen=True)
class Transposition:
    """A tensor copied with its axes in another order, Relax's `permute_dims`.

    - `data`: the tensor's shape.
    - `axes`: for each axis of the result, which axis of the data it is.
    """

    data: tuple[int, ...]
    axes: tuple[int, ...]
    dtype: str = "float32"

    @property
    def operator(self) -> str:
        """The operator's name in records."""
        return "permute_dims"

    @property
    def output(self) -> tuple[int, ...]:
        """The shape of the result."""
        return tuple(self.data[axis] for axis in self.axes)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of data and result."""
        return self.data, self.output

    @property
    def args(self) -> list[Any]:
        """What identifies the transposition in records."""
        return [["TENSOR", list(self.data), self.dtype], list(self.axes)]

    @property
    def moves(self) -> bool:
        """Whether the order in memory changes at all: a tensor of one channel, or of one pixel, need only be reshaped."""
        longer = [axis for axis in self.axes if self.data[axis] > 1]
        return longer != sorted(longer)

    @property
    def bytes(self) -> int:
        """Bytes that are read, and written."""
        return math.prod(self.data) * np.dtype(self.dtype).itemsize

    def prim_func(self) -> Any:
        """The transposition as TVM's own PrimFunc `(data, output)`."""
        from tvm import te, topi

        data = te.placeholder(self.data, self.dtype, name="data")
        return te.create_prim_func([data, topi.transpose(data, self.axes)])

    def reference(self, data: np.ndarray) -> np.ndarray:
        """The result by NumPy."""
        return data.transpose(self.axes)

    def task(self, target: Target) -> Task:
        """The transposition as something to measure, which has nothing to choose."""
        space = KnobSpace([Option("default", (0,))])
        function = untuned.scheduled(self.prim_func(), target) if target.kind == "llvm" else None
        return Task(self.operator, self.args, target, space, workload=self, function=function)  # type: ignore[arg-type]


def transposition_seconds(
    transpositions: Iterable[Transposition],
    target: Target,
    *,
    log: str | os.PathLike[str] | None = None,
    measurer: Measurer | None = None,
) -> dict[Transposition, float]:
    """The median seconds of each transposition on a target.

    **Arguments:**

    - `transpositions`: those that leave the order in memory as it is cost nothing and are not measured.
    - `log`: a file of records; what it holds is not measured again, and what is measured is appended.
    - `measurer`: None for a `Local` closed at the end.

    **Raises:** `DeviceError` if the target has no device here, `ValueError` for a log of another device, `TuningError` for a
    transposition that does not work.
    """
    records = RecordLog(log) if log is not None else None
    own = [record for record in (records.records if records else []) if record.key.target == target and record.measurement.ok]
    known, devices = {record.key: record.measurement for record in own}, {record.measurement.device for record in own}
    seconds: dict[Transposition, float] = {}
    with ExitStack() as stack:
        for each in dict.fromkeys(transpositions):
            task = each.task(target)
            if each.moves and task.key not in known:
                measurer = measurer or stack.enter_context(Local())
                device = measurer.device(task)
                if records and (others := devices - {"", device}):
                    raise ValueError(
                        f"log: {records.path} has transpositions on {others.pop()!r}, not {device!r}; use another log."
                    )
                ((_, measurement),) = measurer.stream(task, [None])
                if not measurement.ok:
                    raise TuningError(f"{each}: it failed: {measurement.error.name}, {measurement.message}.")
                known[task.key] = measurement
                if records:
                    records.append(Record(task.key, DEFAULT_INDEX, None, measurement))
            seconds[each] = known[task.key].cost if each.moves else 0.0
    return seconds
