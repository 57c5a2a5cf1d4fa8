"""A faster model out: a network compiled with the schedules that tuning found."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tvm_bridge.measure.base import DeviceError
from tvm_bridge.measure.jobs import export
from tvm_bridge.network import jobs, untuned
from tvm_bridge.network.database import Tuned, best_schedules, commit, foreign_database, recorded_seconds
from tvm_bridge.network.executable import build
from tvm_bridge.network.extract import Extraction, extraction_of
from tvm_bridge.network.running import Running
from tvm_bridge.records import Paths, Record, gather
from tvm_bridge.target import Target

UNCHECKED = "pass check=False, or --no-check on the command line"
"""The way out where a compiled network cannot be run."""

TOLERANCE = 1e-3
"""How far the outputs of the tuned and the untuned network may lie apart, as a share of the largest: layers add up."""


@dataclass(frozen=True, eq=False)
class CompiledNetwork:
    """A network ready to run.

    - `executable`: TVM's compiled Relax module.
    - `target`: what it was compiled for.
    - `inputs`: name, shape and dtype of each input.
    - `tuned`: the functions that run under a tuned schedule; all others run under TVM's default, or a plain one on a CPU.
    """

    executable: Any
    target: Target
    inputs: tuple[tuple[str, tuple[int, ...], str], ...]
    tuned: tuple[str, ...] = ()

    def __call__(self, *inputs: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """Run the network; the number of threads is the environment's `TVM_NUM_THREADS`.

        **Raises:** `ValueError` if the inputs are not the network's.
        """
        given = [(tuple(each.shape), str(each.dtype)) for each in inputs]
        if given != [(shape, dtype) for _, shape, dtype in self.inputs]:
            raise ValueError(f"inputs: {given} are not the network's, which are {list(self.inputs)}.")
        return jobs.outputs_of(self._machine, inputs, self.target.kind)

    @cached_property
    def _machine(self) -> Any:
        return jobs.machine(self.executable, self.target.kind)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network as a library that TVM's runtime loads by itself.

        `relax.VirtualMachine(tvm.runtime.load_module(path), device)["main"](*inputs)` runs it.

        **Raises:** `ValueError` if the name does not end in .so or .tar.
        """
        check_library_name(path)
        export(self.executable, str(path))


def compile_network(
    model: Any,
    target: Any = None,
    *,
    log: Paths | Sequence[Record] | None = None,
    database: str | os.PathLike[str] | None = None,
    check: bool = True,
) -> CompiledNetwork:
    """Compile a network with the schedules that tuning found.

    **Arguments:**

    - `model`: an `Extraction`, a `Network`, or whatever `load_network` reads.
    - `target`: what to compile for, as `tune_network` takes it.
    - `log`: the folder that `tune_network` wrote, logs of single tasks, or records; None for TVM's default schedules.
    - `database`: the folder of a MetaSchedule database, ours or another tool's; of two schedules the faster counts. Records
      of another target are left out, with a warning. With one, no kernel copies asynchronously on a GPU: TVM compiles others'
      schedules wrongly then.
    - `check`: run the network with the tuned and with the default schedules. Where the first is not faster, a warning says so
      and the second is returned.

    **Raises:** `ValueError` naming the argument that does not fit; `DeviceError` if the network is to be checked and its device
    is not here; `RuntimeError` if the tuned network computes something else, or naming the operators that cannot be compiled.
    """
    extraction = extraction_of(model, target)
    foreign = None if database is None else foreign_database(database, extraction.target)
    tuned = _tuned(extraction, gather("log", log), foreign)
    compiled = _compiled(extraction, tuned, foreign)
    if not compiled.tuned and (log is not None or database is not None):
        warnings.warn(
            f"log, database: neither has a schedule for {extraction.network.name} on {extraction.target} that is faster than "
            "TVM's default; the network is compiled untuned.",
            stacklevel=2,
        )
    if not (check and compiled.tuned):
        return compiled
    if "mtriple" in dict(extraction.target.attributes):
        raise ValueError(f"check: what is compiled for {extraction.target} cannot run on this machine; {UNCHECKED}.")
    default = _compiled(extraction, {}, None)
    try:
        before, after = _compare(default, compiled)
    except DeviceError as error:
        raise DeviceError(f"{error} To compile it all the same {UNCHECKED}.") from error
    if after < before:
        return compiled
    warnings.warn(
        f"{extraction.network.name}: tuned it takes {after * 1e3:.4g} ms, by default {before * 1e3:.4g} ms; "
        "the default is kept.",
        stacklevel=2,
    )
    return default


def check_library_name(path: str | os.PathLike[str]) -> None:
    """Refuse a name for which no library can be written.

    **Raises:** `ValueError` if it does not end in .so or .tar.
    """
    if Path(path).suffix not in (".so", ".tar"):
        raise ValueError(f"path: {str(path)!r} must end in .so, or in .tar to be linked elsewhere.")


def _tuned(extraction: Extraction, records: Sequence[Record], foreign: Any) -> dict[str, Tuned]:
    """The fastest of our schedules for each function of the fused module, where a foreign database has none that is faster."""
    chosen: dict[str, Tuned] = {}
    for each in extraction.tasks:
        for tuned in best_schedules(each.task, records)[:1]:
            if foreign is None or tuned.seconds <= recorded_seconds(foreign, each.task.function, each.task.target):
                chosen |= dict.fromkeys(each.functions, tuned)
    return chosen


def _compiled(extraction: Extraction, tuned: dict[str, Tuned], foreign: Any) -> CompiledNetwork:
    """The network under some schedules, and what no template covers under plain ones on a CPU; the rest under TVM's default.

    Without any schedules it is TVM's default throughout.
    """
    import tvm
    from tvm.relax import transform
    from tvm.s_tir.meta_schedule.database import MemoryDatabase, UnionDatabase

    target, module = extraction.target, tvm.IRModule(extraction.module.functions)
    database = MemoryDatabase()
    for name, each in tuned.items():
        module.update_func(module.get_global_var(name), each.start)
        commit(database, each, target)
    if foreign is not None:
        database = UnionDatabase(database, foreign)
    functions = [name for name in extraction.calls if recorded_seconds(database, module[name], target) < float("inf")]
    with target.tvm, database:
        module = tvm.ir.transform.Sequential(
            [
                transform.MetaScheduleApplyDatabase(),
                transform.SplitLayoutRewritePreproc(),
                transform.FoldConstant(),
                transform.DeadCodeElimination(),
            ]
        )(module)
    if target.kind == "llvm" and functions:
        for variable in module.get_global_vars():
            if variable.name_hint in extraction.uncovered:
                module.update_func(variable, untuned.scheduled(module[variable], target))
    executable = build(module, target, name=extraction.network.name, ours=foreign is None)
    return CompiledNetwork(executable, target, extraction.network.inputs, tuple(functions))


def _compare(
    default: CompiledNetwork, tuned: CompiledNetwork, least: int = 3, most: int = 100, seconds: float = 0.5
) -> tuple[float, float]:
    """The median seconds of both, in turns; their outputs must agree.

    The default runs for so many seconds, as far as that is from `least` to `most` runs: a few are enough to tell a network
    that is a hundred times slower, and not one that takes a millisecond.
    """
    with Running([default, tuned]) as running:
        apart = running.call(jobs.apart)
        if not apart <= TOLERANCE:
            raise RuntimeError(f"the tuned network's outputs differ from the default's by {apart:.2g} of the largest.")
        (first, _), _ = running.call(jobs.latencies, [1, 1])
        runs = min(most, max(least, int(seconds / first[0])))
        before, after = (float(np.median(each)) for each in running.call(jobs.latencies, [runs, runs])[0])
    return before, after
