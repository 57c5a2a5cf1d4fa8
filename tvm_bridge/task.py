"""Tasks: a workload, a target, and the space of schedules that the target's template defines for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import tvm_ffi

from search import KnobSpace, Option
from tvm_bridge import candidates as other
from tvm_bridge import templates
from tvm_bridge.convolution import Conv2d, array_axes, four_sides, pair, reordered
from tvm_bridge.dense import Dense
from tvm_bridge.records import TaskKey
from tvm_bridge.target import Target
from tvm_bridge.workload import from_args

if TYPE_CHECKING:
    from search.knobs import Config, Knob
    from tvm_bridge.candidates import Candidates
    from tvm_bridge.measure import Measurer
    from tvm_bridge.workload import Workload


@dataclass(frozen=True, eq=False)
class Task:
    """Something to tune.

    - `operator`, `args`: what is computed, as an AutoTVM log names it; with `target` they identify the task in records.
    - `space`: the schedules to choose from.
    - `flop`: floating-point operations of one run, or None if unknown: throughput is then 1/seconds.
    - `workload`: the operator's description, or None for a task known only by its records.
    - `function`: the PrimFunc to schedule, with any epilogue that a graph fused to it; None for the workload's own.
    - `measurer`: what measures the task unless `tune` is told otherwise; None for this machine.
    - `enlarged`: whether the space has all that the template can do, not AutoTVM's knobs alone.
    - `candidates`: `{knob: its options}` where they are not the template's: the space numbers its configurations otherwise.
    - `digest`: what records call the function of a task that is known by them alone.
    """

    operator: str
    args: Sequence[Any]
    target: Target
    space: KnobSpace
    flop: float | None = None
    workload: Workload | None = None
    function: Any = None
    measurer: Measurer | None = None
    label: str = ""
    enlarged: bool = False
    candidates: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    digest: str = ""

    @property
    def name(self) -> str:
        """A name for people: the label it was given, or the operator and its target."""
        return self.label or f"{self.operator}.{self.target.kind}"

    @cached_property
    def key(self) -> TaskKey:
        """What identifies the task in records: target, operator, arguments, and its function if it has one."""
        if self.function is None:
            return TaskKey.of(self.target, self.operator, self.args, self.digest)
        digest = f"{tvm_ffi.structural_hash(self.function, map_free_vars=True):016x}"
        return TaskKey.of(self.target, self.operator, self.args, digest)

    def own(self, config: Config) -> Config | None:
        """A configuration of any space of this task, by the knobs of this space; None if it is not in this one.

        Factors of -1, as logs have them, are resolved.
        """
        absent = {knob.name: knob.absent for knob in self._knobs.values() if isinstance(knob, Option)}
        whole: Config = {name: value for name, value in absent.items() if value is not None} | config
        if not all(name in self._knobs and other.may_have(self._knobs[name], value) for name, value in whole.items()):
            return config  # to be refused by the space: no version of the template has such a configuration
        own = {knob: whole.pop(knob.name) for knob in self.space.knobs if knob.name in whole}
        if any(value != absent.get(name) for name, value in whole.items()):
            return None
        if not all(other.has(knob, value) for knob, value in own.items()):
            return None
        return {knob.name: knob.value(knob.option(value)) for knob, value in own.items()}

    @cached_property
    def _knobs(self) -> dict[str, Knob]:
        """Every knob that a space of this task can have, with the options of its template."""
        space = self.space if self.workload is None else templates.space(self.workload, self.target, enlarged=True)
        return {knob.name: knob for knob in space.knobs}

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
    enlarged: bool = False,
    candidates: Candidates | None = None,
) -> Task:
    """Make the task of a two-dimensional convolution.

    **Arguments:**

    - `data`, `weight`: shapes of the arrays. In NCHW they are (N, C, H, W) and (C_out, C / groups, KH, KW); in NHWC
      (N, H, W, C) and (KH, KW, C, C_out), or (KH, KW, C, 1) for a depthwise convolution.
    - `stride`, `dilation`: a number or (vertical, horizontal).
    - `padding`: a number, (vertical, horizontal), or (top, left, bottom, right).
    - `groups`: 1, or C for a depthwise convolution.
    - `layout`: of data and output, "NCHW" or "NHWC".
    - `target`: "llvm" (this machine's CPU), "cuda", or a TVM target. A CUDA task can be made, sampled and built without a GPU.
    - `label`: a name for progress lines, the network's layer for example.
    - `enlarged`: choose among all that the template can do, Winograd's algorithm for 3x3 kernels on CPUs for example, and not
      among AutoTVM's knobs alone.
    - `candidates`: other options for some knobs, `{"auto_unroll_max_step": (0, 512, 1500, 2000)}` for example, or
      `{"tile_rc": [(16, 4), (8, 8)]}`: all the options that the knob shall have.

    **Raises:** `ValueError` naming the argument that does not fit.
    """
    data_axes, weight_axes = array_axes(layout, groups)
    if len(data) != 4 or len(weight) != 4:
        raise ValueError(f"data and weight must have four extents each, not {tuple(data)} and {tuple(weight)}.")
    workload = Conv2d(
        reordered([int(extent) for extent in data], data_axes, "NCHW"),
        reordered([int(extent) for extent in weight], weight_axes, "OIHW"),
        pair("stride", stride),
        four_sides(padding),
        pair("dilation", dilation),
        groups,
        dtype,
        layout,
    )
    return task_of(workload, Target.parse(target).resolve(), label=label, enlarged=enlarged, candidates=candidates)


def dense(
    *,
    data: Sequence[int],
    weight: Sequence[int],
    dtype: str = "float32",
    target: Any,
    label: str = "",
    candidates: Candidates | None = None,
) -> Task:
    """Make the task of a matrix product, a fully connected layer without its bias: `data @ weight.T`.

    **Arguments:**

    - `data`: (N, K), a row for each input.
    - `weight`: (M, K), a row for each output.
    - `target`, `label`, `candidates`: as `conv2d` takes them.

    **Raises:** `ValueError` naming the argument that does not fit.
    """
    if len(data) != 2 or len(weight) != 2:
        raise ValueError(f"data and weight must have two extents each, not {tuple(data)} and {tuple(weight)}.")
    (rows, depth), (columns, weight_depth) = map(int, data), map(int, weight)
    workload = Dense((rows, depth), (columns, weight_depth), dtype)
    return task_of(workload, Target.parse(target).resolve(), label=label, candidates=candidates)


def task_of(
    workload: Workload,
    target: Target,
    *,
    function: Any = None,
    label: str = "",
    enlarged: bool = False,
    candidates: Candidates | None = None,
) -> Task:
    """The task of a workload on a target, with the space of the template registered for them, or other candidates in it."""
    space, named = templates.space(workload, target, enlarged=enlarged), candidates or {}
    options = other.given(space, named)
    return Task(
        workload.operator,
        workload.args,
        target,
        other.replaced(space, other.unasked(space, named) | options),
        flop=workload.flop,
        workload=workload,
        function=function,
        label=label,
        enlarged=enlarged,
        candidates=options,
    )


def task_recorded(key: TaskKey, configs: Iterable[Config], *, enlarged: bool = False) -> Task:
    """The operator's task of a record's key, with candidates that have these configurations as far as its knobs go."""
    workload = from_args(key.operator, json.loads(key.args))
    space = templates.space(workload, key.target, enlarged=enlarged)
    task = task_of(workload, key.target, enlarged=enlarged, candidates=other.covering(space, configs))
    return replace(task, digest=key.function)
