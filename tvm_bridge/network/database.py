"""Tuned schedules as a MetaSchedule database, which every other TVM tool can use, and other tools' databases for ours.

A template that computes a function by another algorithm, Winograd's for example, first rewrites it; MetaSchedule's traces start
from a given function and cannot. Such a schedule is stored for the rewritten function, and the best one that needs no rewriting
for the function itself. `relax.transform.MetaScheduleApplyDatabase` uses the second, and so does `compile_network` with a
database; with a log it uses the first.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tvm_ffi

from tvm_bridge import templates
from tvm_bridge.records import gather
from tvm_bridge.target import Target
from tvm_bridge.task import task_of

if TYPE_CHECKING:
    from tvm_bridge.network.extract import Extraction
    from tvm_bridge.records import Paths, Record, TaskKey
    from tvm_bridge.task import Task

FILES = ("database_workload.json", "database_tuning_record.json")
"""MetaSchedule's names for the two files of a database in a folder."""


@dataclass(frozen=True)
class Tuned:
    """A task's fastest schedule.

    - `start`: the function that the schedule starts from: the task's own, or what a template rewrote it to.
    - `schedule`: an `s_tir.Schedule`.
    - `seconds`: of one run.
    """

    start: Any
    schedule: Any
    seconds: float


def best_schedules(task: Task, records: Iterable[Record]) -> list[Tuned]:
    """A task's fastest schedule, and the fastest that needs no rewriting if that is another; none if the default is faster.

    A task of which no configuration worked takes those of the same operator with another epilogue: templates carry any. What
    cannot be applied is passed over, with a warning.
    """
    from tvm.s_tir import ScheduleError

    same = [record for record in records if _without_epilogue(record.key) == _without_epilogue(task.key)]
    measured = [record for record in same if record.key == task.key]
    if not any(record.config and record.measurement.ok for record in measured):
        measured += [record for record in same if record.key != task.key]
    working = [record for record in measured if record.measurement.ok]
    ranked = sorted(working, key=lambda record: (record.measurement.cost, record.index))
    template = templates.find(task.operator, task.target.kind)
    found: list[Tuned] = []
    for record in ranked:
        if record.config is None:
            break
        config = _own(task, record)
        if config is None:
            continue
        start = templates.rewritten(template, task.function, config)
        own = start is task.function
        if own or not found:
            try:
                schedule = template.schedule(task.function, config, task.target)
            except ScheduleError:  # what another epilogue had, or an earlier version
                warnings.warn(f"{task.name}: {config} does not fit its function; the next fastest is taken.", stacklevel=2)
                continue
            found.append(Tuned(start, schedule, record.measurement.cost))
        if own:
            break
    return found


def _own(task: Task, record: Record) -> dict[str, Any] | None:
    """A record's configuration by the knobs of a task, or of its space with the candidates that the record had."""
    assert record.config is not None
    config = task.own(record.config)
    if config is not None or task.workload is None or not record.candidates:
        return config
    try:
        return task_of(task.workload, task.target, enlarged=task.enlarged, candidates=record.candidates).own(record.config)
    except ValueError:  # candidates of knobs that this space has not
        return None


def _without_epilogue(key: TaskKey) -> TaskKey:
    return key._replace(function="")


def export_database(
    extraction: Extraction, records: Paths | Iterable[Record], folder: str | os.PathLike[str], *, replace: bool = False
) -> Any:
    """Write the tuned schedules of a network's tasks as a MetaSchedule database.

    **Arguments:**

    - `records`: records, logs, or the folder that `tune_network` wrote; those of other tasks are passed over.
    - `folder`: made if it is not there; MetaSchedule's `work_dir`.
    - `replace`: whether a database that is there is replaced.

    **Returns:** the `JSONDatabase`.

    **Raises:** `ValueError` if the folder has a database already that is not to be replaced.
    """
    folder = Path(folder)
    if not replace and any((folder / name).exists() for name in FILES):
        raise ValueError(f"folder: {folder} has a database already; name another folder, or remove {' and '.join(FILES)}.")
    known = gather("records", records)
    schedules = [tuned for each in extraction.tasks for tuned in best_schedules(each.task, known)]
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    database = open_database(folder)
    for tuned in schedules:
        commit(database, tuned, extraction.target)
    return database


def open_database(folder: str | os.PathLike[str], *, existing: bool = False) -> Any:
    """The MetaSchedule database in a folder, ours or another tool's; made if it is not there, unless it must exist.

    **Raises:** `FileNotFoundError` if it must and does not.
    """
    from tvm.s_tir.meta_schedule.database import JSONDatabase

    if existing and not all((Path(folder) / name).exists() for name in FILES):
        raise FileNotFoundError(f"database: {folder} has no {' and '.join(FILES)}; name MetaSchedule's work_dir.")
    workloads, tuning_records = (str(Path(folder) / name) for name in FILES)
    return JSONDatabase(workloads, tuning_records)


def foreign_database(folder: str | os.PathLike[str], target: Target) -> Any:
    """The records of the MetaSchedule database in a folder that are for a target's machine; a warning counts the others.

    TVM itself takes a record for whatever target it is asked. Of a target, what code is generated for tells.

    **Raises:** `FileNotFoundError` if there is no database.
    """
    from tvm.s_tir.meta_schedule.database import MemoryDatabase, TuningRecord

    stored = open_database(folder, existing=True).get_all_tuning_records()
    own = [record for record in stored if _means(record.target, target)]
    if len(own) < len(stored):
        warnings.warn(
            f"database: {folder} has {len(stored) - len(own)} records of another target than {target}, which are left out, "
            f"of {next(each.target for each in stored if each not in own)} for example; compile for it to use them.",
            stacklevel=3,
        )
    database = MemoryDatabase()
    workloads = {workload: database.commit_workload(workload.mod) for workload in {record.workload for record in own}}
    for each in own:
        record = TuningRecord(each.trace, workloads[each.workload], each.run_secs, each.target, each.args_info)
        database.commit_tuning_record(record)
    return database


def _means(recorded: Any, target: Target) -> bool:
    """Whether TVM's target of a record, if it has one, is for the same machine as ours."""
    try:
        theirs = Target.parse(recorded).resolve()
    except ValueError:
        return False
    same = (dict(theirs.attributes).get(name) == dict(target.attributes).get(name) for name in ("arch", "mcpu", "mtriple"))
    return theirs.kind == target.kind and all(same)


def commit(database: Any, tuned: Tuned, target: Target) -> None:
    """Add a schedule to a MetaSchedule database."""
    from tvm.s_tir.meta_schedule.arg_info import ArgInfo
    from tvm.s_tir.meta_schedule.database import TuningRecord

    workload = database.commit_workload(_module(tuned.start))
    # With the blocks that pack weights: MetaSchedule can remove copies alone, and Winograd's transform is none.
    arguments = ArgInfo.from_entry_func(tuned.schedule.mod, remove_preproc=False)
    record = TuningRecord(tuned.schedule.trace, workload, [tuned.seconds], target.tvm, arguments)
    database.commit_tuning_record(record)


def recorded_seconds(database: Any, function: Any, target: Target) -> float:
    """The time that a database has for a function's best schedule; infinite if it has none."""
    record = database.query_tuning_record(_module(function), target.tvm, "main")
    if record is None or record.run_secs is None:
        return float("inf")
    times = [float(seconds) for seconds in record.run_secs]
    return sum(times) / len(times)


def _module(function: Any) -> Any:
    """A function as MetaSchedule looks it up."""
    from tvm.s_tir import meta_schedule  # noqa: F401 - registers the function asked for

    return tvm_ffi.get_global_func("tvm.s_tir.meta_schedule.normalize_mod")(function)
