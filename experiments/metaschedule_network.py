"""TVM's MetaSchedule on a whole network, on a CPU its weights free in layout, timed as ours are; `metaschedule.py` has a task.

These functions run in a process whose `TVM_NUM_THREADS` is the target's number of threads.
"""

from __future__ import annotations

import importlib
import shutil
from dataclasses import replace
from pathlib import Path

from tvm.relax import transform
from tvm.s_tir import meta_schedule

from experiments import log, metaschedule
from tvm_bridge.network.database import FILES
from tvm_bridge.network.extract import Extraction, calls_in, extract_tasks
from tvm_bridge.network.load import load_network
from tvm_bridge.network.recognise import workload_of
from tvm_bridge.target import Target

LIMIT = 30.0
"""Seconds that a build and that a run of a candidate may take."""


def tune(name: str, target: Target, folder: Path, trials: int, batch: int, *, cores: int) -> None:
    """Tune a network by `tune_relax`, unless that was done; what was stopped starts over.

    It tunes the operators that our templates cover and leaves the others alone, as ours do: with them, rounds of `batch`
    would not reach every task within a small budget. Every task has its round before one has a second.

    **Arguments:**

    - `name`: of the network.
    - `folder`: where the database, the logs and `batches.jsonl`, the seconds of each round, are kept; emptied at the start.
    - `trials`: measurements of all tasks together, failed ones included.
    - `batch`: measurements of a round.
    - `cores`: how many candidates are compiled at once.
    """
    if metaschedule.finished(folder, trials):
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    importlib.import_module("tvm.s_tir.tensor_intrin")  # half a minute, once: not held against MetaSchedule, which needs it
    extraction = prepared(extract_tasks(load_network(name), target))
    meta_schedule.relax_integration.tune_relax(
        extraction.module,
        {},
        metaschedule.known(extraction.target).tvm,
        str(folder),
        max_trials_global=trials,
        num_trials_per_iter=batch,
        op_names=[function for function in extraction.calls if workload_of(extraction.module[function])],
        builder=metaschedule.builder(cores, LIMIT),
        runner=metaschedule.runner(LIMIT),
        measure_callbacks=[*meta_schedule.MeasureCallback.create("default"), metaschedule.Clock(folder / "batches.jsonl")],
        seed=1,
    )
    log.append(folder / "batches.jsonl", {"trials": 0, "seconds": 0.0, "finished": trials})


def first_rounds(folder: Path, trials: int, into: Path) -> Path:
    """The database as it was after the first rounds that had measured `trials` candidates; `into` is written anew."""
    measured, _ = metaschedule.spent(folder, trials)
    workloads, tuning_records = FILES
    into.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / workloads, into / workloads)
    lines = (folder / tuning_records).read_text().splitlines(keepends=True)
    (into / tuning_records).write_text("".join(lines[:measured]))
    return into


def prepared(extraction: Extraction) -> Extraction:
    """The network as MetaSchedule tunes it, and `compile_network` with its database compiles it: none of our own schedules."""
    module = extraction.module
    if extraction.target.kind == "llvm":
        module = transform.AttachAttrLayoutFreeBuffers()(module)  # which names functions anew
    calls, foreign = calls_in(module)
    return replace(extraction, module=module, tasks=(), calls=calls, foreign=foreign)
