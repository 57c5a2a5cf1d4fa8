"""TVM's MetaSchedule on a task of ours, whose candidates are timed as ours are, their weights packed ahead as ours are.

Its function is the task's own with the weights marked as free in layout, so that its candidates are timed without the packing
of their weights; of the best one, the block that packs is split off. These functions run in a process whose `TVM_NUM_THREADS`
is the target's number of threads: MetaSchedule's runners inherit it, and would use half of the machine's threads without it.
"""

from __future__ import annotations

import importlib
import math
import shutil
import time
from pathlib import Path
from typing import Any

import tvm
from tvm.s_tir import meta_schedule

from experiments import log
from tvm_bridge import packing
from tvm_bridge.build import compiled
from tvm_bridge.measure.jobs import Built, Subject, shapes

BATCH = 64
"""Candidates of a round of its search, its own default."""


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


def tune(subject: Subject, folder: Path, trials: int, batch: int = BATCH, timeout: float = 30.0) -> None:
    """Search until `trials` candidates were measured, unless such a search is finished.

    One that was stopped starts over: without the cost model that it had learned, it would propose anew what it has measured.

    **Arguments:**

    - `subject`: what is tuned.
    - `folder`: where the database, the logs and `batches.jsonl`, the seconds of each round, are kept; emptied at the start.
    - `trials`: measurements, failed ones included.
    - `batch`: measurements of a round.
    - `timeout`: seconds that a build and that a run may take.
    """
    if finished(folder, trials):
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    batches = folder / "batches.jsonl"
    importlib.import_module("tvm.s_tir.tensor_intrin")  # half a minute, once: not held against MetaSchedule, which needs it
    meta_schedule.tune_tir(
        _function(subject),
        subject.target.tvm,
        str(folder),
        max_trials_global=trials,
        num_trials_per_iter=batch,
        builder=builder(subject.target.threads, timeout),
        runner=runner(timeout),
        measure_callbacks=[*meta_schedule.MeasureCallback.create("default"), Clock(batches)],
        num_tuning_cores=subject.target.threads,
        seed=1,
    )
    log.append(batches, {"trials": 0, "seconds": 0.0, "finished": trials})


def build(subject: Subject, folder: Path, path: str) -> Built:
    """Compile the best candidate of a folder's search into a library, its weights packed apart.

    **Raises:** `ValueError` if no candidate works.
    """
    database = meta_schedule.database.JSONDatabase(work_dir=str(folder))
    module = tvm.IRModule({"main": _function(subject)})
    best = database.query_schedule(module, subject.target.tvm, "main")
    if best is None:
        raise ValueError("none of its candidates works")
    kernel, packers = packing.split(best.mod["main"])
    compiled({"main": kernel} | packing.by_name(packers), subject.target).export_library(path)
    return Built(path, shapes(kernel), tuple(packers))


def builder(threads: int, timeout: float) -> Any:
    """What compiles candidates, so many at once."""
    return meta_schedule.builder.LocalBuilder(max_workers=threads, timeout_sec=timeout, f_build=_compiled)


def runner(timeout: float) -> Any:
    """What times candidates, as `Local` does."""
    evaluator = meta_schedule.runner.EvaluatorConfig(number=1, repeat=3, min_repeat_ms=100)
    return meta_schedule.runner.LocalRunner(timeout_sec=timeout, evaluator_config=evaluator)


def _compiled(module: Any, target: Any, _: Any) -> Any:
    """What MetaSchedule's builders do, but for loading its tensor intrinsics, which alone takes them past their time limit."""
    from tvm.driver import build
    from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

    return build(RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(module), target=target)


def _function(subject: Subject) -> Any:
    """The function to schedule, whose second parameter, the weights, may take any layout."""
    return subject.prim_func().with_attrs({"global_symbol": "main", "layout_free_buffers": [1]})


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
