"""What builders and runners answer: libraries, and failures in the right category."""

import os
import stat

import jax
import numpy as np
import tvm
from tvm.support.nvcc import compile_cuda

from tests.tvm_bridge.measure.kernels import calling, small_task
from tvm_bridge.measure import jobs
from tvm_bridge.measure.base import ErrorCategory
from tvm_bridge.measure.compiling import subject_of


def some_config(task):
    return task.space.to_config(task.space.sample(jax.random.key(0), 1)[0])


def test_built_library_is_loaded_checked_and_timed(tmp_path):
    task = small_task()
    built = jobs.build(subject_of(task), some_config(task), str(tmp_path / "kernel.so"))
    assert isinstance(built, jobs.Built)
    assert built.packed == (1,)
    assert isinstance(jobs.prepare(subject_of(task), None, 60, True), str)
    times = jobs.run(built, "llvm", jobs.Timing(min_repeat_ms=1, repeat=4))
    assert len(times) == 4
    assert min(times) > 0


def test_library_for_another_machine_is_compiled(tmp_path):
    task = small_task({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "num-cores": 4})
    built = jobs.build(subject_of(task), some_config(task), str(tmp_path / "kernel.tar"))
    assert isinstance(built, jobs.Built), built
    assert os.path.getsize(built.path) > 0


def test_wrong_result_says_where(tmp_path):
    task = calling("abs", 1)
    built = jobs.build(subject_of(task), None, str(tmp_path / "kernel.so"))
    jobs.prepare(subject_of(task), None, 60, True)
    other = jobs.build(subject_of(calling("abs", 2)), None, str(tmp_path / "other.so"))
    assert isinstance(jobs.run(built, "llvm", jobs.Timing(min_repeat_ms=1)), list)
    failure = jobs.run(other, "llvm", jobs.Timing(min_repeat_ms=1))
    assert failure.error is ErrorCategory.WRONG_ANSWER
    assert "16 of 16 results are wrong; at (0,) it gave 2." in failure.message


def test_error_of_the_device_is_no_wrong_answer(tmp_path, monkeypatch):
    """A kernel's error shows when the device is waited for, before any result is looked at."""
    task = small_task()
    built = jobs.build(subject_of(task), None, str(tmp_path / "kernel.so"))
    jobs.prepare(subject_of(task), None, 60, True)
    freed = []

    class OnDevice:
        def __init__(self, value, device):
            self.value = value

        def __del__(self):
            freed.append(self)

    class Kernel:
        def __getitem__(self, name):
            return lambda *arguments: None

    def sync(device):
        raise RuntimeError("CUDA Runtime Error: cudaErrorIllegalAddress (700): an illegal memory access was encountered")

    monkeypatch.setattr(tvm.runtime, "tensor", OnDevice)
    monkeypatch.setattr(tvm.runtime, "load_module", lambda path: Kernel())
    monkeypatch.setattr(type(tvm.cpu()), "sync", sync)
    monkeypatch.setattr(jobs._runner, "failure", None)
    failure = jobs.run(built, "llvm", jobs.Timing())
    assert failure.error is ErrorCategory.RUNTIME_DEVICE
    assert "an illegal memory access was encountered" in failure.message
    assert freed == []  # to free memory of a device that has failed can end the process before it has answered


def test_missing_library_is_a_run_time_error(tmp_path):
    task = small_task()
    jobs.prepare(subject_of(task), None, 60, True)
    failure = jobs.run(jobs.Built(str(tmp_path / "none.so"), (), ()), "llvm", jobs.Timing())
    assert failure.error is ErrorCategory.RUNTIME_DEVICE


def test_compiler_failures_name_the_side(tmp_path, monkeypatch):
    broken = tmp_path / "nvcc"
    broken.write_text("#!/bin/sh\necho 'error: this compiler is broken'\nexit 1\n")
    broken.chmod(broken.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    task = small_task("cuda")

    def device_compiler(functions, target):  # TVM calls it itself only where there is a GPU
        with target.tvm:
            compile_cuda("__global__ void kernel() {}", target_format="fatbin", compiler="nvcc")

    def host_compiler(functions, target):
        raise tvm.error.InternalError("LLVM ERROR: out of registers")

    for compiler, error, message in (
        (device_compiler, ErrorCategory.COMPILE_DEVICE, "this compiler is broken"),
        (host_compiler, ErrorCategory.COMPILE_HOST, "out of registers"),
    ):
        monkeypatch.setattr(jobs, "compiled", compiler)
        failure = jobs.build(subject_of(task), some_config(task), str(tmp_path / "kernel.so"))
        assert failure.error is error
        assert message in failure.message


def test_a_reference_that_fails_costs_its_own_candidates_alone(tmp_path, monkeypatch):
    task, other = calling("abs", 3), small_task()

    def reference(subject, inputs, output):
        if subject == subject_of(task):
            raise MemoryError("too large")
        return subject.workload.reference(*inputs)

    monkeypatch.setattr(jobs, "_reference", reference)
    monkeypatch.setattr(jobs, "_runner", jobs.Runner())
    for each, name in ((other, "first"), (task, "second"), (other, "third")):
        built = jobs.build(subject_of(each), None, str(tmp_path / f"{name}.so"))
        assert isinstance(jobs.prepare(subject_of(each), None, 60, True), str)
        result = jobs.run(built, "llvm", jobs.Timing(min_repeat_ms=1))
        if each is task:
            assert result.error is ErrorCategory.UNKNOWN
            assert result.message.startswith("no reference to check against (MemoryError: too large); use check=False")
        else:
            assert isinstance(result, list), result


def test_the_next_process_finds_the_reference(tmp_path, monkeypatch):
    subject = subject_of(small_task())

    def prepared():
        monkeypatch.setattr(jobs, "_runner", jobs.Runner())
        assert isinstance(jobs.prepare(subject, None, 60, True, str(tmp_path)), str)
        return jobs._runner.expected

    expected = prepared()
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(jobs, "_reference", None)
    np.testing.assert_array_equal(prepared(), expected)
