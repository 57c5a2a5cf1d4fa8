"""Compiling here, running elsewhere in processes: what measuring on this machine and over RPC share."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tvm.support.cc import get_cc

from tvm_bridge.measure.base import DeviceError, ErrorCategory, Measurement, Measurer
from tvm_bridge.measure.jobs import Subject, Timing, Tracker
from tvm_bridge.measure.pipeline import Limits, Pipeline
from tvm_bridge.measure.process import Worker
from tvm_bridge.target import Target, host_cores

if TYPE_CHECKING:
    from search.space import Config
    from tvm_bridge.task import Task


class Compiling(Measurer):
    """What local and remote measuring share: candidates are compiled here by a pool of processes, and run by others."""

    def __init__(self, *, tracker: Tracker | None, timing: Timing, limits: Limits, builders: int | None) -> None:
        if builders is not None and builders < 1:
            raise ValueError(f"builders: {builders} must be at least 1.")
        self._tracker = tracker
        self._timing, self._limits = timing, limits
        self._builders = builders or host_cores()
        self._pipelines: dict[Target, Pipeline] = {}
        self._workers: list[Worker] = []
        self._folder = ""

    def device(self, task: Task) -> str:
        """Name the device that will measure the task; `DeviceError` if there is none."""
        return self._pipeline(task.target).device(subject_of(task))

    def stream(self, task: Task, configs: Sequence[Config | None]) -> Iterator[tuple[int, Measurement]]:
        """Yield `(position, measurement)` as candidates finish; configurations the target refuses are not even built."""
        able: list[tuple[int, Config | None]] = []
        for position, config in enumerate(configs):
            knobs = None if config is None else task.space.from_config(config)
            if knobs is None or task.space.valid(knobs[None]).all():
                able.append((position, None if knobs is None else task.space.to_config(knobs)))
            else:
                message = f"the template refuses it on {task.target}"
                yield (
                    position,
                    Measurement((), ErrorCategory.INSTANTIATION, message, timestamp=time.time(), device=self.device(task)),
                )
        pipeline = self._pipeline(task.target)
        for place, measurement in pipeline.stream(subject_of(task), [config for _, config in able]):
            yield able[place][0], measurement

    def close(self) -> None:
        """End the processes and remove their files; measuring again starts new ones."""
        for worker in self._workers:
            worker.stop()
        self._workers.clear()
        self._pipelines.clear()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def _devices(self) -> int:
        """How many devices to run on at once."""
        return 1

    def _pipeline(self, target: Target) -> Pipeline:
        if target not in self._pipelines:
            self._folder = self._folder or tempfile.mkdtemp(prefix="gausstune-")
            builders = [Worker(_compiler_environment(target)) for _ in range(self._builders)]
            runners = [Worker({"TVM_NUM_THREADS": str(target.threads)}) for _ in range(self._devices())]
            self._workers += builders + runners
            self._pipelines[target] = Pipeline(
                builders,
                runners,
                folder=self._folder,
                suffix=_library_suffix(target),
                limits=self._limits,
                timing=self._timing,
                tracker=self._tracker,
                overlap=self._tracker is not None or target.kind != "llvm",
            )
        return self._pipelines[target]


def subject_of(task: Task) -> Subject:
    """The task as builder and runner processes take it.

    **Raises:** `ValueError` for a task known only by its records.
    """
    if task.workload is None:
        raise ValueError(f"task: {task.name} is known only by its records and cannot be measured; replay them.")
    function = None
    if task.function is not None:
        import tvm

        function = tvm.ir.save_json(task.function)
    return Subject(task.operator, task.workload, task.target, function)


def _compiler_environment(target: Target) -> dict[str, str]:
    """CUDA code is compiled by NVRTC where its bindings are installed (extra `cuda`), else by the nvcc on the path."""
    if target.kind == "cuda" and importlib.util.find_spec("cuda") is None and shutil.which("nvcc"):
        return {"TVM_CUDA_COMPILE_MODE": "nvcc"}
    return {}


def _library_suffix(target: Target) -> str:
    """The kind of library a target gets: objects to be linked there for another kind of machine, else a shared library.

    Without a linker on this machine a CPU kernel travels as LLVM's code, and the runner compiles it.

    **Raises:** `DeviceError` for a CUDA target without a C compiler.
    """
    if "mtriple" in dict(target.attributes):
        return ".tar"
    if get_cc():
        return ".so"
    if target.kind == "llvm":
        return ".ll"
    raise DeviceError("a CUDA kernel needs a C compiler to be linked, and none is on the path; install gcc or clang.")
