"""From a configuration to a compiled kernel: the schedule, the module of functions, the machine code."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import tvm

from tvm_bridge import packing, templates

if TYPE_CHECKING:
    from search.knobs import Config
    from tvm_bridge.target import Target
    from tvm_bridge.task import Task


def build(task: Task, config: Config | None = None) -> Any:
    """Compile one configuration of a task, ready to call.

    **Arguments:**

    - `task`: made by `conv2d` and its like; a task known only by its records cannot be built.
    - `config`: `{knob: factors or value}`, of `result.best.config` for example; None for TVM's default schedule.

    **Returns:** a `tvm.runtime.Module`. `main(data, weight, output)` takes tensors on the target's device and fills the last. A
    schedule that wants its weight packed has it packed by `main` at each call; a network packs it once with
    `pack_1(weight, packed)`, for parameter 1, and calls `main_packed(data, packed, output)`, which is what was measured.

    **Raises:** `ValueError` if the configuration is not one of the task's, or the task has no function.
    """
    if task.workload is None:
        raise ValueError(f"task: {task.name} is known only by its records and cannot be built.")
    if config is not None:
        own = task.own(config)
        if own is None:
            raise ValueError(
                f"config: {config} is of the enlarged space or of other candidates; make the task with enlarged=True, or with "
                "candidates that have it."
            )
        knobs = task.space.from_config(own)
        if not task.space.valid(knobs[None]).all():
            raise ValueError(f"config: {config} is refused on {task.target}; take one of task.space.")
        config = task.space.to_config(knobs)
    function = task.function if task.function is not None else task.workload.prim_func()
    scheduled = schedule(function, task.operator, task.target, config)
    kernel, packers = packing.split(scheduled)
    functions = {"main": scheduled} | packing.by_name(packers)
    if packers:
        functions["main_packed"] = kernel
    return compiled(functions, task.target).mod


def schedule(function: Any, operator: str, target: Target, config: Config | None) -> Any:
    """The function under a configuration of its template, or under TVM's default schedule for None."""
    if config is not None:
        return templates.find(operator, target.kind).schedule(function, config, target).mod["main"]
    return default_schedules(tvm.IRModule({"main": function}), target)["main"]


def default_schedules(module: Any, target: Target) -> Any:
    """A module whose unscheduled functions have TVM's default schedules: none on a CPU, its pipeline's rules on a GPU."""
    if target.kind != "cuda":
        return module
    from tvm.s_tir import dlight

    rules = dlight.gpu
    with target.tvm:  # in the order of TVM's own CUDA pipeline
        apply = dlight.ApplyDefaultSchedule(
            rules.Matmul(), rules.GEMV(), rules.Reduction(), rules.GeneralReduction(), rules.Fallback()
        )
        return apply(module)


def compiled(functions: dict[str, Any], target: Target, *, ours: bool = True) -> Any:
    """Compile functions into one executable, under schedules of our templates or of others."""
    module = tvm.IRModule({name: function.with_attr("global_symbol", name) for name, function in functions.items()})
    with asynchronous_copies(ours=ours):
        return tvm.compile(module, target=target.tvm)


def asynchronous_copies(*, ours: bool = True) -> Any:
    """The context in which kernels are compiled: what our schedules mark as asynchronous copies become such.

    Under others' schedules they stay plain copies. MetaSchedule's have vectors whose elements lie apart, in place of which TVM
    would copy neighbours asynchronously: a wrong result. Its own builder leaves them plain too.

    TVM would look for transfers by a DMA engine first, which CUDA has none of: seconds for nothing, or a failure.
    """
    if not ours:
        return nullcontext()
    return tvm.transform.PassContext(config={"tirx.use_async_copy": True}, disabled_pass=["s_tir.LowerAsyncDMA"])
