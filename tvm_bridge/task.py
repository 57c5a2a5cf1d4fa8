"""Tasks: a workload, a target, and the space of schedules that the target's template defines for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tvm_ffi

from search import KnobSpace
from tvm_bridge import templates
from tvm_bridge.records import TaskKey
from tvm_bridge.target import Target
from tvm_bridge.workload import Conv2d, four_sides, pair

if TYPE_CHECKING:
    from tvm_bridge.measure import Measurer


@dataclass(frozen=True, eq=False)
class Task:
    """Something to tune.

    - `operator`, `args`: what is computed, as an AutoTVM log names it; with `target` they identify the task in records.
    - `space`: the schedules to choose from.
    - `flop`: floating-point operations of one run, or None if unknown: throughput is then 1/seconds.
    - `workload`: the operator's description, or None for a task known only by its records.
    - `function`: the PrimFunc to schedule, with any epilogue that a graph fused to it; None for the workload's own.
    - `measurer`: what measures the task unless `tune` is told otherwise; None for this machine.
    """

    operator: str
    args: Sequence[Any]
    target: Target
    space: KnobSpace
    flop: float | None = None
    workload: Conv2d | None = None
    function: Any = None
    measurer: Measurer | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """A name for people: the label it was given, or the operator and its target."""
        return self.label or f"{self.operator}.{self.target.kind}"

    @property
    def key(self) -> TaskKey:
        """What identifies the task in records: target, operator, arguments, and its function if it has one."""
        function = "" if self.function is None else f"{tvm_ffi.structural_hash(self.function, map_free_vars=True):016x}"
        return TaskKey.of(self.target, self.operator, self.args, function)

    def gflops(self, seconds: float) -> float:
        """Throughput of a run of `seconds`: GFLOPS, or runs a second where the operation count is unknown."""
        return 1 / seconds if self.flop is None else self.flop / seconds / 1e9


def conv2d(
    *,
    data: Sequence[int],
    weight: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    layout: str = "NCHW",
    dtype: str = "float32",
    target: Any,
    label: str = "",
) -> Task:
    """Make the task of a two-dimensional convolution.

    **Arguments:**

    - `data`: (N, C, H, W).
    - `weight`: (C_out, C / groups, KH, KW).
    - `stride`, `dilation`: a number or (vertical, horizontal).
    - `padding`: a number, (vertical, horizontal), or (top, left, bottom, right).
    - `groups`: 1, or C for a depthwise convolution.
    - `target`: "llvm" (this machine's CPU), "cuda", or a TVM target. A CUDA task can be made, sampled and built without a GPU.
    - `label`: a name for progress lines, the network's layer for example.

    **Raises:** `ValueError` naming the argument that does not fit.
    """
    if layout != "NCHW":
        raise ValueError(f"layout: {layout!r} is not supported; use 'NCHW'.")
    if len(data) != 4 or len(weight) != 4:
        raise ValueError(f"data and weight must have four extents each, not {tuple(data)} and {tuple(weight)}.")
    batch, channels, height, width = map(int, data)
    filters, per_group, kernel_height, kernel_width = map(int, weight)
    workload = Conv2d(
        (batch, channels, height, width),
        (filters, per_group, kernel_height, kernel_width),
        pair("stride", stride),
        four_sides(padding),
        pair("dilation", dilation),
        groups,
        dtype,
    )
    return task_of(workload, Target.parse(target).resolve(), label=label)


def task_of(workload: Conv2d, target: Target, *, function: Any = None, label: str = "") -> Task:
    """The task of a workload on a target, with the space of the template registered for them."""
    template = templates.find(workload.operator, target.kind)
    return Task(
        workload.operator,
        workload.args,
        target,
        template.space(workload, target),
        flop=workload.flop,
        workload=workload,
        function=function,
        label=label,
    )
