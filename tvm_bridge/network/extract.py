"""Tasks out of a network: what its operators, fused with what follows them, compute, and how often each occurs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_bridge import templates
from tvm_bridge.network.batch_norm import fold_batch_norm
from tvm_bridge.network.load import Network, load_network
from tvm_bridge.network.recognise import workload_of
from tvm_bridge.target import Target
from tvm_bridge.task import Task, task_of

if TYPE_CHECKING:
    from tvm_bridge.records import TaskKey

CALLERS = ("relax.call_tir", "relax.call_tir_inplace", "relax.call_dps_packed", "relax.call_pure_packed")
"""Relax's operators that call their first argument."""


@dataclass(frozen=True)
class NetworkTask:
    """A task of a network.

    - `task`: what to tune; its label is the name of the first of its functions.
    - `count`: how often a run of the network computes it.
    - `functions`: the functions of the fused module that are this task.
    """

    task: Task
    count: int
    functions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Extraction:
    """A network taken apart.

    - `network`, `target`: what was taken apart, and for which hardware.
    - `module`: the network as an IRModule in which Relax calls one `PrimFunc` for each operator with its epilogue.
    - `tasks`: what can be tuned, in the order of the network.
    - `calls`: how often a run of the network calls each `PrimFunc` of the module.
    - `foreign`: the same of whatever else it calls: packed functions of other libraries, Relax's own operators.
    """

    network: Network
    target: Target
    module: Any
    tasks: tuple[NetworkTask, ...]
    calls: dict[str, int]
    foreign: dict[str, int]

    @cached_property
    def uncovered(self) -> dict[str, int]:
        """What no template covers and how often each is called; no search is for it."""
        covered = {name for each in self.tasks for name in each.functions}
        return {name: count for name, count in (self.calls | self.foreign).items() if name not in covered}


def extract_tasks(model: Any, target: Any, *, enlarged: bool = True) -> Extraction:
    """Take a network apart into tasks.

    **Arguments:**

    - `model`: a `Network`, or whatever `load_network` reads.
    - `target`: "llvm" (this machine's CPU), "cuda", or a TVM target.
    - `enlarged`: choose among all that the templates can do, and not among AutoTVM's knobs alone.

    **Raises:** `ValueError` naming the argument that does not fit.
    """
    target = Target.parse(target).resolve()
    network = model if isinstance(model, Network) else load_network(model)
    module = fused(network.module, target)
    calls, foreign = calls_in(module)
    tasks: dict[TaskKey, NetworkTask] = {}
    for name, count in calls.items():
        function = module[name]
        workload = workload_of(function)
        if workload is None or (workload.operator, target.kind) not in templates.TEMPLATES:
            continue
        task = task_of(workload, target, function=function, label=name, enlarged=enlarged)
        first = tasks.get(task.key, NetworkTask(task, 0, ()))
        tasks[task.key] = NetworkTask(first.task, first.count + count, (*first.functions, name))
    return Extraction(network, target, module, tuple(tasks.values()), calls, foreign)


def extraction_of(model: Any, target: Any, *, enlarged: bool = True) -> Extraction:
    """The network taken apart, unless the model is that already; without a target it is for this machine's CPU.

    **Raises:** `ValueError` as `extract_tasks` does, or if the target is not the extraction's.
    """
    if not isinstance(model, Extraction):
        return extract_tasks(model, "llvm" if target is None else target, enlarged=enlarged)
    if target is not None and Target.parse(target).resolve() != model.target:
        raise ValueError(f"target: {target!r} is not the extraction's, {model.target}; extract the tasks for it.")
    return model


def fused(module: Any, target: Target) -> Any:
    """Lower a network to one `PrimFunc` for each operator and what follows it, batch normalisation folded into weights."""
    from tvm import ir
    from tvm.relax import transform

    passes = (
        transform.DecomposeOpsForInference(),
        transform.CanonicalizeBindings(),
        transform.FoldConstant(),
        transform.DeadCodeElimination(),
        transform.LegalizeOps({"relax.matmul": _dense}),
        transform.AnnotateTIROpPattern(),
        transform.FoldConstant(),
        transform.FuseOps(),
        transform.FuseTIR(),
    )
    with target.tvm:
        return ir.transform.Sequential(passes)(fold_batch_norm(module))


def _dense(builder: Any, call: Any) -> Any:
    """A product with a constant matrix as TOPI's `dense`, whose weight has a row for each output; any other as TVM does it."""
    from tvm import relax, topi

    data, weight = call.args
    if hasattr(weight, "value") and len(data.ty.shape) == len(weight.ty.shape) == 2:
        rows = relax.const(np.ascontiguousarray(weight.value.numpy().T))
        return builder.call_te(topi.nn.dense, data, rows, primfunc_name_hint="dense")
    return call.op.get_attr("FLegalize")(builder, call)


def calls_in(module: Any) -> tuple[dict[str, int], dict[str, int]]:
    """How often "main" calls each `PrimFunc` of the module, and whatever else it calls, in the order of the first calls."""
    import tvm
    from tvm import relax, tirx
    from tvm.relax.expr_functor import PyExprVisitor, visitor

    own: Counter[str] = Counter()
    foreign: Counter[str] = Counter()

    @visitor
    class Calls(PyExprVisitor):
        def visit_call_(self, call: Any) -> None:
            through = call.op if isinstance(call.op, tvm.ir.Op) else None
            callee = call.args[0] if through is not None and through.name in CALLERS else call.op
            if isinstance(callee, tvm.ir.GlobalVar):
                (own if isinstance(module[callee], tirx.PrimFunc) else foreign)[callee.name_hint] += 1
            else:
                name = callee.global_symbol if isinstance(callee, relax.ExternFunc) else getattr(callee, "name", callee)
                foreign[str(name)] += 1

    Calls().visit_expr(module["main"])
    return dict(own), dict(foreign)
