"""Compiling here, running elsewhere in processes: what measuring on this machine and over RPC share."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from tvm.support.cc import get_cc

from tvm_bridge.gpu_state import gpu_state, visible_gpu
from tvm_bridge.measure.base import DeviceError, ErrorCategory, Measurement, Measurer
from tvm_bridge.measure.device_lock import DeviceLock
from tvm_bridge.measure.jobs import Subject, Timing, Tracker
from tvm_bridge.measure.pipeline import Limits, Pipeline
from tvm_bridge.measure.process import Worker
from tvm_bridge.target import Target, host_cores

if TYPE_CHECKING:
    from search.knobs import Config
    from tvm_bridge.task import Task


MOST_BUILDERS = 16
"""Builders unless told otherwise are as many as there are cores, up to this: each takes about 0.4 GiB."""

TAKEN_IN_TURNS = ("cuda",)
"""Kinds of this machine's devices that one process at a time measures on; a CPU has cores to bind each process to its own."""

SPINS = "TVM_THREAD_POOL_SPIN_COUNT"
SOME_SPINS = 10_000
"""Turns that a thread of TVM's waits awake for its next part of a kernel: milliseconds, as between runs.

TVM's own 300 000 last a tenth of a second, in which the thread takes a core from the search that thinks about the next batch.
"""


class Compiling(Measurer):
    """What local and remote measuring share: candidates are compiled here by a pool of processes, and run by others."""

    def __init__(self, *, tracker: Tracker | None, timing: Timing, limits: Limits, builders: int | None) -> None:
        if builders is not None and builders < 1:
            raise ValueError(f"builders: {builders} must be at least 1.")
        self._tracker = tracker
        self._timing, self._limits = timing, limits
        self._builders = builders or min(host_cores(), MOST_BUILDERS)
        self._pipelines: dict[Target, Pipeline] = {}
        self._workers: list[Worker] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def device(self, task: Task) -> str:
        """Name the device that will measure the task; `DeviceError` if there is none."""
        return self._pipeline(task.target).device(subject_of(task))

    def stream(self, task: Task, configs: Sequence[Config | None]) -> Generator[tuple[int, Measurement]]:
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
        with closing(pipeline.stream(subject_of(task), [config for _, config in able])) as arriving:
            for place, measurement in arriving:
                yield able[place][0], measurement

    def close(self) -> None:
        """End the processes and remove their files; measuring again starts new ones."""
        for worker in self._workers:
            worker.stop()
        self._workers.clear()
        self._pipelines.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _devices(self) -> int:
        """How many devices to run on at once."""
        return 1

    def _pipeline(self, target: Target) -> Pipeline:
        if target not in self._pipelines:
            if self._timing.cache_flush and target.kind != "llvm":
                raise ValueError(f"cache_flush: it empties a CPU's caches; leave it out for {target.kind}.")
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="gausstune-", ignore_cleanup_errors=True)
            folder = tempfile.mkdtemp(dir=self._folder.name)
            inside = {"TMPDIR": folder}  # compilers that are stopped leave their own files behind
            load = ["tvm_bridge.measure.jobs"]
            compiler = compiler_environment(target) | inside
            builders = [Worker(compiler, modules=load) for _ in range(self._builders)]
            runners = [Worker(_runner_environment(target) | inside, modules=load) for _ in range(self._devices())]
            self._workers += builders + runners
            self._pipelines[target] = Pipeline(
                builders,
                runners,
                folder=folder,
                suffix=_library_suffix(target),
                limits=self._limits,
                timing=self._timing,
                tracker=self._tracker,
                overlap=self._tracker is not None or target.kind != "llvm",
                lock=DeviceLock(device_name(target.kind)) if self._tracker is None and target.kind in TAKEN_IN_TURNS else None,
            )
        return self._pipelines[target]


def subject_of(task: Task) -> Subject:
    """The task as builder and runner processes take it.

    **Raises:** `ValueError` for a task known only by its records.
    """
    if task.workload is None:
        raise ValueError(f"task: {task.name} is known only by its records and cannot be measured; replay them.")
    if task.digest and task.function is None:
        raise ValueError(f"task: of {task.name} records know the result, not the function; take it from its network.")
    function = None
    if task.function is not None:
        import tvm

        function = tvm.ir.save_json(task.function)
    return Subject(task.operator, task.workload, task.target, function)


def device_name(kind: str) -> str:
    """What processes call the device of this kind that they measure on, to take turns on it: of a GPU its UUID."""
    if kind != "cuda":
        return kind
    state = gpu_state()
    return f"cuda-{visible_gpu() if isinstance(state, str) or state.uuid is None else state.uuid}"


def compiler_environment(target: Target) -> dict[str, str]:
    """The variables that have TVM find the compiler of a target's code.

    CUDA code is compiled by NVRTC where it can be called (extra `cuda`), else by the nvcc on the path.
    """
    if target.kind == "cuda" and not _has_nvrtc() and shutil.which("nvcc"):
        return {"TVM_CUDA_COMPILE_MODE": "nvcc"}
    return {}


def _runner_environment(target: Target) -> dict[str, str]:
    return {"TVM_NUM_THREADS": str(target.threads), SPINS: os.environ.get(SPINS, str(SOME_SPINS))}


def _has_nvrtc() -> bool:
    """Whether the bindings of NVRTC are installed and find its library, which comes with CUDA's toolkit."""
    try:
        importlib.import_module("cuda.bindings.nvrtc").nvrtcVersion()
    except (ImportError, RuntimeError, OSError):
        return False
    return True


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
