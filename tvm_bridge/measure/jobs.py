"""What builder and runner processes do: compile a candidate to a library; load, check and time it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm.support.tar import tar

from tvm_bridge import packing, templates
from tvm_bridge.build import compiled, schedule
from tvm_bridge.measure.base import ErrorCategory
from tvm_bridge.measure.complaints import in_short
from tvm_bridge.measure.difference import difference
from tvm_bridge.target import Target
from tvm_bridge.workload import Workload

Shape = tuple[tuple[int, ...], str]


@dataclass(frozen=True)
class Subject:
    """What is measured, in a form that travels between processes."""

    operator: str
    workload: Workload
    target: Target
    function: str | None = None  # TVM's JSON of a function with an epilogue

    def prim_func(self) -> Any:
        """The function to schedule."""
        return self.workload.prim_func() if self.function is None else tvm.ir.load_json(self.function)


@dataclass(frozen=True)
class Timing:
    """How a kernel is timed; the words are AutoTVM's.

    - `number`: runs averaged into one time; raised until a repeat takes `min_repeat_ms` milliseconds.
    - `repeat`: times taken.
    - `warmup`: runs before the first time, beside the one that is checked.
    - `cache_flush`: empty the CPU's caches of all arguments but the first before each repeat, which is a single run then.
    - `check`: compare the result with the reference.
    """

    number: int = 1
    repeat: int = 3
    min_repeat_ms: int = 100
    warmup: int = 1
    cache_flush: bool = False
    check: bool = True

    def __post_init__(self) -> None:
        for name, least in (("number", 1), ("repeat", 1), ("min_repeat_ms", 0), ("warmup", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least {least}.")


@dataclass(frozen=True)
class Built:
    """A compiled candidate: its library, its arguments, and which of them it wants packed.

    - `tf32_terms`: how many products of numbers rounded to TF32 each result is the sum of; 0 if all is float32.
    """

    path: str
    arguments: tuple[Shape, ...]
    packed: tuple[int, ...]
    tf32_terms: int = 0


@dataclass(frozen=True)
class Failure:
    """A candidate that failed."""

    error: ErrorCategory
    message: str


@dataclass(frozen=True)
class Unreachable:
    """The device went away, which need not be the candidate's fault."""

    message: str


@dataclass(frozen=True)
class Tracker:
    """A TVM RPC tracker and the key its devices are registered under."""

    host: str
    port: int
    key: str


def build(subject: Subject, config: dict[str, Any] | None, path: str) -> Built | Failure:
    """Schedule and compile a candidate, and write its library."""
    try:
        scheduled = schedule(subject.prim_func(), subject.operator, subject.target, config)
        kernel, packers = packing.split(scheduled)
    except Exception as error:
        return Failure(ErrorCategory.INSTANTIATION, in_short(error))
    functions = {"main": kernel} | packing.by_name(packers)
    try:
        export(compiled(functions, subject.target), path)
    except Exception as error:
        device = any(word in str(error) for word in ("Compilation error:", "nvcc", "NVRTC"))  # TVM gives them no type
        return Failure(ErrorCategory.COMPILE_DEVICE if device else ErrorCategory.COMPILE_HOST, in_short(error))
    return Built(path, shapes(kernel), tuple(packers), 0 if config is None else _tf32_terms(subject, config))


def _tf32_terms(subject: Subject, config: dict[str, Any]) -> int:
    return templates.tf32_terms(templates.find(subject.operator, subject.target.kind), subject.workload, config)


def shapes(function: Any) -> tuple[Shape, ...]:
    """Shape and type of every parameter of a PrimFunc; the last is the output."""
    return tuple((tuple(int(extent) for extent in buffer.shape), str(buffer.dtype)) for buffer in function.params)


def export(executable: Any, path: str) -> None:
    """Write a library: linked (.so), as objects to be linked elsewhere (.tar), or as LLVM's code (.ll)."""
    if path.endswith(".ll"):
        executable.mod.write_to_file(path, "ll")
    elif path.endswith(".tar"):
        executable.export_library(path, fcompile=tar)
    else:
        executable.export_library(path)


class Runner:
    """The state of a runner process: the device it holds, the subject it is prepared for, and the references it has made.

    `expected` is the subject's reference; None where there is none, and `complaint` says why, if it was asked for. All kernels
    then fail as UNKNOWN, without being run. `failure` is the last run's on this machine, and keeps what was on the device: an
    error poisons the context of a GPU, and to free memory in it would end the process before it has answered.
    """

    def __init__(self) -> None:
        self.session: Any = None
        self.subject: Subject | None = None
        self.inputs: list[np.ndarray] = []
        self.expected: np.ndarray | None = None
        self.complaint = ""
        self.failure: Exception | None = None
        self.references: dict[Subject, np.ndarray] = {}  # of all subjects: those of a network take turns


_runner = Runner()


def prepare(
    subject: Subject, tracker: Tracker | None, session_limit: float, check: bool, folder: str | None = None
) -> str | Unreachable:
    """Take hold of the device, make the subject's inputs and the result its kernels are checked against.

    With a tracker a fresh session is asked for last, so that no device waits for the reference; the server ends it after
    `session_limit` seconds. References are kept in `folder`: the next process, after a kernel has ended this one, finds them.

    **Returns:** the device's name.
    """
    if tracker is None and isinstance(absent := local_device(subject.target.kind), Unreachable):
        return absent
    if _runner.subject != subject:
        *inputs, output = shapes(subject.prim_func())
        generator = np.random.default_rng(0)
        _runner.inputs = [generator.uniform(-1, 1, shape).astype(dtype) for shape, dtype in inputs]
        _runner.complaint = ""
        if check and subject not in _runner.references:
            try:
                _runner.references[subject] = _kept_reference(subject, _runner.inputs, output, folder)
            except Exception as error:  # the subject's own fault: its candidates fail, another subject's do not
                _runner.complaint = f"no reference to check against ({in_short(error)}); use check=False and another log"
        _runner.expected = _runner.references.get(subject)
        _runner.subject = subject
    return local_device(subject.target.kind) if tracker is None else _remote_device(tracker, session_limit)


def _kept_reference(subject: Subject, inputs: Sequence[np.ndarray], output: Shape, folder: str | None) -> np.ndarray:
    """The reference from the folder, where it is put if it is not there."""
    if folder is None:
        return _reference(subject, inputs, output)
    path = os.path.join(folder, f"reference-{hashlib.sha256(repr(subject).encode()).hexdigest()[:16]}.npy")
    if os.path.exists(path):
        return np.load(path)
    reference = _reference(subject, inputs, output)
    unfinished = f"{path}.{os.getpid()}"
    with open(unfinished, "wb") as file:
        np.save(file, reference)
    os.replace(unfinished, path)
    return reference


def _reference(subject: Subject, inputs: Sequence[np.ndarray], output: Shape) -> np.ndarray:
    """The result by NumPy, or by TVM's own unscheduled code for a function with an epilogue, which has no NumPy form."""
    if subject.function is None:
        return subject.workload.reference(*inputs)
    result = tvm.runtime.tensor(np.empty(*output))
    compiled({"main": subject.prim_func()}, Target("llvm")).mod["main"](*map(tvm.runtime.tensor, inputs), result)
    return result.numpy()


def local_device(kind: str) -> str | Unreachable:
    """The name of this machine's CPU or first GPU."""
    if kind == "llvm":
        return cpu_name()
    device = tvm.device(kind, 0)
    if not device.exist:
        return Unreachable(
            f"there is no {kind.upper()} device on this machine; tune for target='llvm', measure on another machine with "
            "tvm_bridge.RPC, or replay recorded measurements"
        )
    return f"{device.device_name} (compute capability {device.compute_version})"


def _remote_device(tracker: Tracker, session_limit: float) -> str | Unreachable:
    _runner.session = None
    try:
        link = tvm.rpc.connect_tracker(tracker.host, tracker.port)
        _runner.session = link.request(tracker.key, session_timeout=session_limit)
        link.close()
    except Exception as error:
        return Unreachable(f"no device {tracker.key!r} at the tracker {tracker.host}:{tracker.port}: {in_short(error)}")
    return f"{tracker.key} (RPC)"


def run(built: Built, kind: str, timing: Timing) -> list[float] | Failure | Unreachable:
    """Load a candidate's library on the connected device, check its result, time it, and let go of a remote device."""
    session, _runner.session = _runner.session, None
    if timing.check and _runner.complaint:
        return Failure(ErrorCategory.UNKNOWN, _runner.complaint)
    try:
        if session is None:
            module = tvm.runtime.load_module(built.path)
            device = tvm.device(kind if kind != "llvm" else "cpu", 0)
        else:
            session.upload(built.path)
            module = session.load_module(os.path.basename(built.path))
            device = session.device(kind if kind != "llvm" else "cpu", 0)
        arguments = [tvm.runtime.tensor(value, device) for value in _runner.inputs]
        for place in built.packed:
            packed = tvm.runtime.empty(*built.arguments[place], device)
            module[f"pack_{place}"](arguments[place], packed)
            arguments[place] = packed
        output, dtype = built.arguments[-1]
        result = tvm.runtime.tensor(np.full(output, np.nan, dtype), device)
        module["main"](*arguments, result)
        device.sync()
        if timing.check:
            assert _runner.expected is not None  # or there would be a complaint
            if complaint := difference(result.numpy(), _runner.expected, tf32_terms=built.tf32_terms):
                return Failure(ErrorCategory.WRONG_ANSWER, complaint)
        for _ in range(timing.warmup):
            module["main"](*arguments, result)
        evaluator = module.time_evaluator(
            "main",
            device,
            number=1 if timing.cache_flush else timing.number,
            repeat=timing.repeat,
            min_repeat_ms=0 if timing.cache_flush else timing.min_repeat_ms,
            f_preproc="cache_flush_cpu_non_first_arg" if timing.cache_flush else "",
        )
        return [float(seconds) for seconds in evaluator(*arguments, result).results]
    except Exception as error:
        if session is not None:
            return Unreachable(in_short(error))
        _runner.failure = error  # its traceback holds the arguments
        return Failure(ErrorCategory.RUNTIME_DEVICE, in_short(error))


def cpu_name() -> str:
    """The CPU's name and how many threads kernels run on."""
    try:
        with open("/proc/cpuinfo") as lines:
            name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        name = platform.processor() or platform.machine()
    return f"{name}, {os.environ.get('TVM_NUM_THREADS', os.cpu_count())} threads"
