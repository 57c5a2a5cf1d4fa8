"""TVM's MetaSchedule on a task of ours, whose candidates are timed as ours are, on a CPU with weights packed ahead as ours are.

Its function is the task's own, on a CPU with the weights marked as free in layout, so that its candidates are timed without the
packing of their weights; of the best one, the block that packs is split off. On a GPU nobody packs weights. These functions run
in a process whose `TVM_NUM_THREADS` is the target's number of threads: MetaSchedule's runners inherit it, and would use half of
the machine's threads without it.
"""

from __future__ import annotations

import importlib
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm.s_tir import meta_schedule

from experiments import log
from tvm_bridge import packing
from tvm_bridge.build import compiled
from tvm_bridge.measure.jobs import Built, Subject, shapes
from tvm_bridge.target import Target
from tvm_bridge.templates.cuda_limits import Limits

BATCH = 64
"""Candidates of a round of its search, its own default."""


@dataclass(frozen=True)
class Conditions:
    """How candidates are built and measured.

    - `timeout`: seconds that a build and that a run may take.
    - `min_repeat_ms`: least milliseconds of each of the three times of a measurement.
    - `cores`: for building and searching; None for as many as a kernel has threads.
    """

    timeout: float = 30.0
    min_repeat_ms: int = 100
    cores: int | None = None


def spent(folder: Path, trials: float = math.inf) -> tuple[int, float]:
    """How many candidates a folder's search has measured, and the seconds that searching and measuring took.

    With `trials`, of the first rounds that have measured so many.
    """
    measured, seconds = 0, 0.0
    for line in log.read(folder / "batches.jsonl"):
        if measured >= trials:
            break
        measured, seconds = measured + line["trials"], seconds + line["seconds"]
    return measured, seconds


def finished(folder: Path, trials: int) -> bool:
    """Whether a search that could measure `trials` candidates came to its end, be it with fewer: it may find no more."""
    return any(line.get("finished", 0) >= trials for line in log.read(folder / "batches.jsonl"))


def tune(
    subject: Subject,
    folder: Path,
    trials: int,
    batch: int = BATCH,
    conditions: Conditions = Conditions(),
) -> None:
    """Search until `trials` candidates were measured, unless such a search is finished.

    One that was stopped starts over: without the cost model that it had learned, it would propose anew what it has measured.

    **Arguments:**

    - `subject`: what is tuned.
    - `folder`: where the database, the logs and `batches.jsonl`, the seconds of each round, are kept; emptied at the start.
    - `trials`: measurements, failed ones included.
    - `batch`: measurements of a round.
    - `conditions`: under which candidates are built and measured.
    """
    if finished(folder, trials):
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    batches = folder / "batches.jsonl"
    importlib.import_module("tvm.s_tir.tensor_intrin")  # half a minute, once: not held against MetaSchedule, which needs it
    cores = conditions.cores or subject.target.threads
    meta_schedule.tune_tir(
        function(subject),
        known(subject.target).tvm,
        str(folder),
        max_trials_global=trials,
        num_trials_per_iter=batch,
        builder=builder(cores, conditions.timeout),
        runner=runner(conditions.timeout, conditions.min_repeat_ms),
        measure_callbacks=[*meta_schedule.MeasureCallback.create("default"), Clock(batches)],
        num_tuning_cores=cores,
        seed=1,
    )
    log.append(batches, {"trials": 0, "seconds": 0.0, "finished": trials})


def build(subject: Subject, folder: Path, path: str) -> Built:
    """Compile the best candidate of a folder's search into a library as the search did, its weights packed apart.

    **Raises:** `ValueError` if no candidate works.
    """
    database = meta_schedule.database.JSONDatabase(work_dir=str(folder))
    module = tvm.IRModule({"main": function(subject)})
    best = database.query_schedule(module, known(subject.target).tvm, "main")
    if best is None:
        raise ValueError("none of its candidates works")
    kernel, packers = packing.split(best.mod["main"])
    compiled({"main": kernel} | packing.by_name(packers), subject.target, ours=False).export_library(path)
    return Built(path, shapes(kernel), tuple(packers))


def builder(threads: int, timeout: float) -> Any:
    """What compiles candidates, so many at once."""
    return meta_schedule.builder.LocalBuilder(max_workers=threads, timeout_sec=timeout, f_build=_compiled)


def runner(timeout: float, min_repeat_ms: int = 100) -> Any:
    """What times candidates, as `Local` does."""
    evaluator = meta_schedule.runner.EvaluatorConfig(number=1, repeat=3, min_repeat_ms=min_repeat_ms)
    return meta_schedule.runner.LocalRunner(timeout_sec=timeout, evaluator_config=evaluator)


def _compiled(module: Any, target: Any, _: Any) -> Any:
    """What MetaSchedule's builders do, but for loading its tensor intrinsics, which alone takes them past their time limit."""
    from tvm.driver import build
    from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

    return build(RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(module), target=target)


def function(subject: Subject) -> Any:
    """The function to schedule, whose second parameter, the weights, may take any layout on a CPU."""
    free = {"layout_free_buffers": [1]} if subject.target.kind == "llvm" else {}
    return subject.prim_func().with_attrs({"global_symbol": "main"} | free)


def known(target: Target) -> Target:
    """The target with what MetaSchedule must be told of a GPU: how many threads and how much shared memory a block can have."""
    if target.kind != "cuda":
        return target
    limits = Limits.of(target)
    told = {"max_threads_per_block": limits.threads, "max_shared_memory_per_block": limits.shared_bytes}
    return Target(target.kind, tuple(sorted((dict(target.attributes) | told).items())))


@tvm.ir.utils.derived_object
class Clock(meta_schedule.measure_callback.PyMeasureCallback):
    """Writes down after each round how many candidates it measured, and the seconds since the last."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.began = path, time.perf_counter()

    def apply(self, task_scheduler, task_id, measure_candidates, builder_results, runner_results) -> None:
        """Append a line."""
        now = time.perf_counter()
        log.append(self.path, {"trials": len(measure_candidates), "seconds": now - self.began})
        self.began = now
