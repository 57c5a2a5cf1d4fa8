"""Measuring on this machine: results in order, failures as values with AutoTVM's categories."""

import glob
import os
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax
import pytest

import tvm_bridge as bridge
from tests.tvm_bridge.measure import misbehaviour
from tests.tvm_bridge.measure.kernels import calling, small_task
from tvm_bridge.measure import compiling
from tvm_bridge.measure.base import ErrorCategory
from tvm_bridge.measure.device_lock import DeviceLock
from tvm_bridge.measure.process import Worker

QUICK = {"min_repeat_ms": 1, "repeat": 2, "cache_flush": True, "builders": 1}  # each takes seconds to start


@pytest.fixture(scope="module")
def measurer():
    with bridge.Local(**QUICK | {"builders": 2}) as measurer:
        yield measurer


@pytest.fixture(scope="module")
def unchecked():
    with bridge.Local(**QUICK, check=False, run_limit=0.1) as measurer:
        yield measurer


def test_default_and_random_configurations_have_times(measurer):
    task = small_task()
    knobs = task.space.sample(jax.random.key(0), 5)
    results = measurer.measure(task, knobs)
    ((_, default),) = measurer.stream(task, [None])
    for result in [*results, default]:
        assert result.ok, result.message
        assert len(result.seconds) == 2
        assert 0 < min(result.seconds) <= result.cost <= max(result.seconds) < 0.1
        assert result.device == measurer.device(task)
        assert result.all_cost > 0
        assert abs(result.timestamp - time.time()) < 600


def test_threads_of_kernels_soon_sleep(unchecked):
    (runner,) = unchecked._pipeline(small_task().target)._runners
    spins = os.environ.get(compiling.SPINS, str(compiling.SOME_SPINS))
    assert runner.worker.call(os.getenv, compiling.SPINS, limit=60).value == spins


def test_threads_of_kernels_sleep_as_the_user_says(monkeypatch):
    monkeypatch.setenv(compiling.SPINS, "7")
    assert compiling._runner_environment(small_task().target)[compiling.SPINS] == "7"


def test_every_position_is_answered_once(measurer):
    task = small_task()
    configs = [task.space.to_config(row) for row in task.space.sample(jax.random.key(1), 20)]
    assert sorted(position for position, _ in measurer.stream(task, configs)) == list(range(20))


def test_wrong_result_is_a_failure(measurer):
    ((_, result),) = measurer.stream(calling("rand", 0), [None])
    assert (result.error, result.seconds) == (ErrorCategory.WRONG_ANSWER, ())
    assert "16 of 16 results are wrong" in result.message


@pytest.mark.parametrize(
    ("function", "argument", "error", "message"),
    [
        ("raise", 11, ErrorCategory.RUNTIME_DEVICE, "signal 11"),
        ("sleep", 60, ErrorCategory.RUN_TIMEOUT, "stopped after 0.6 s"),  # the default schedule may take six times the limit
        ("nosuchfunction", 1, ErrorCategory.RUNTIME_DEVICE, "undefined symbol"),
    ],
)
def test_crash_and_hang_cost_one_candidate(unchecked, function, argument, error, message):
    ((_, result),) = unchecked.stream(calling(function, argument), [None])
    assert result.error is error
    assert message in result.message
    (runner,) = unchecked._pipeline(small_task().target)._runners
    assert not runner.worker.alive  # an error poisons the context of a GPU, and with it all that is run in the same process
    ((_, next_result),) = unchecked.stream(small_task(), [None])
    assert next_result.ok, next_result.message


def test_waiting_for_the_device_does_not_count(unchecked, monkeypatch, tmp_path):
    """Two tunings on one device take turns; the time that another has it is no run time."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    task = small_task()
    unchecked.device(task)
    (pipeline,) = (each for target, each in unchecked._pipelines.items() if target == task.target)
    lock = DeviceLock("device")
    monkeypatch.setattr(pipeline, "_lock", lock)
    other = Worker({"TMPDIR": str(tmp_path)})
    assert other.call(misbehaviour.hold, "device", limit=60).value
    config = task.space.to_config(task.space.sample(jax.random.key(0), 1)[0])
    freed, over = [], []

    def free():
        while not (lock.waiting or over):
            time.sleep(0.01)
        time.sleep(0.3)  # three times what the run may take
        freed.append(time.time())
        other.stop()  # the system lets go of what a dead process held

    with ThreadPoolExecutor() as pool:
        freeing = pool.submit(free)
        try:
            ((_, result),) = unchecked.stream(task, [config])
        finally:
            over.append(True)
        freeing.result()
    assert result.ok, result.message
    assert result.timestamp >= freed[0]
    assert not lock.held


@pytest.mark.parametrize(("kind", "name"), [("llvm", None), ("cuda", "cuda-GPU-7")])
def test_gpu_is_measured_by_one_process_at_a_time(kind, name, monkeypatch):
    monkeypatch.setattr(compiling, "gpu_state", lambda: "no nvidia-smi")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-8")
    monkeypatch.setattr(compiling, "DeviceLock", lambda name: name)
    with bridge.Local(**QUICK | {"cache_flush": False}) as measurer:
        assert measurer._pipeline(small_task(kind).target)._lock == name


def no_library():
    raise RuntimeError("libnvrtc.so was not found")


@pytest.mark.parametrize(
    ("nvrtc", "path", "environment"),
    [
        (SimpleNamespace(nvrtcVersion=lambda: (0, 13, 0)), "nvcc", {}),
        (SimpleNamespace(nvrtcVersion=no_library), "nvcc", {"TVM_CUDA_COMPILE_MODE": "nvcc"}),
        (None, "nvcc", {"TVM_CUDA_COMPILE_MODE": "nvcc"}),
        (None, None, {}),
    ],
)
def test_nvcc_compiles_where_nvrtc_cannot_be_called(nvrtc, path, environment, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", nvrtc)
    monkeypatch.setattr(compiling.shutil, "which", lambda tool: path)
    assert compiling.compiler_environment(small_task("cuda -arch=sm_90").target) == environment
    assert compiling.compiler_environment(small_task().target) == {}


def test_schedule_that_cannot_be_made_is_an_instantiation_error(measurer):
    task = calling("abs", 1)  # it has no anchor for a template
    ((_, result),) = measurer.stream(task, [task.space.to_config(task.space.sample(jax.random.key(0), 1)[0])])
    assert result.error is ErrorCategory.INSTANTIATION
    assert result.message


def test_refused_configuration_is_not_built(measurer):
    task = small_task()
    refused = next(row for row in task.space.from_index(range(10_000)) if not task.space.valid(row[None])[0])
    valid = task.space.sample(jax.random.key(0), 1)[0]
    results = measurer.measure(task, [refused, valid])
    assert [result.error for result in results] == [ErrorCategory.INSTANTIATION, ErrorCategory.NO_ERROR]
    assert results[0].all_cost == 0


def test_build_past_its_limit_is_stopped():
    with bridge.Local(**QUICK, build_limit=0.001) as measurer:
        ((_, result),) = measurer.stream(small_task(), [None])
    assert result.error is ErrorCategory.BUILD_TIMEOUT


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="this machine has a GPU")
def test_cuda_without_a_gpu_says_so_before_anything_is_built(tmp_path):
    with bridge.Local(builders=1) as measurer, pytest.raises(bridge.DeviceError, match="no CUDA device"):
        bridge.tune(small_task("cuda"), method="random", measurer=measurer, log=tmp_path / "log.jsonl", progress=False)
    assert (tmp_path / "log.jsonl").read_bytes() == b""


def test_machine_without_a_linker_measures_all_the_same(monkeypatch):
    monkeypatch.setattr(compiling, "get_cc", lambda: None)
    with bridge.Local(**QUICK) as measurer:
        ((_, result),) = measurer.stream(small_task(), [None])
    assert result.ok, result.message


def test_runner_that_dies_between_jobs_costs_nothing(unchecked):
    task = small_task()
    for _ in range(2):
        ((_, result),) = unchecked.stream(task, [None])
        assert result.ok, result.message
        (pipeline,) = (each for target, each in unchecked._pipelines.items() if target == task.target)
        pipeline._runners[0].worker._process.kill()


def test_second_stream_is_refused_while_the_first_is_at_work(unchecked):
    task = small_task()
    unchecked.device(task)
    worker = unchecked._workers[0]
    worker.submit("a job of another stream", misbehaviour.sleep, 60, limit=60)
    with pytest.raises(RuntimeError, match="measurer: it is still measuring for another stream"):
        next(unchecked.stream(task, [None]))
    worker.stop()
    ((_, result),) = unchecked.stream(task, [None])
    assert result.ok, result.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 0}, "number: 0 must be at least 1"),
        ({"repeat": 0}, "repeat: 0 must be at least 1"),
        ({"min_repeat_ms": -1}, "min_repeat_ms: -1 must be at least 0"),
        ({"warmup": -1}, "warmup: -1 must be at least 0"),
        ({"build_limit": 0.0}, r"build_limit: 0\.0 seconds must be more than 0"),
        ({"run_limit": float("nan")}, "run_limit: nan seconds must be more than 0"),
        ({"builders": 0}, "builders: 0 must be at least 1"),
    ],
)
def test_settings_that_measure_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bridge.Local(**options)


def test_cache_flush_is_refused_for_a_gpu():
    with bridge.Local(cache_flush=True) as measurer, pytest.raises(ValueError, match=r"cache_flush: .* leave it out for cuda"):
        measurer.device(small_task("cuda"))


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    task = small_task()
    configs = [task.space.to_config(row) for row in task.space.sample(jax.random.key(0), 4)]
    with bridge.Local(**QUICK) as measurer:
        stream = measurer.stream(task, configs)
        next(stream)
        (folder,) = glob.glob(f"{tmp_path}/gausstune-*")
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        stream.close()  # closed in the middle: libraries that wait are removed
        assert glob.glob(f"{folder}/*/*.so") == []
    with bridge.Local(**QUICK, build_limit=0.05) as measurer:
        assert len(list(measurer.stream(task, configs[:1]))) == 1  # a compiler that was stopped
    assert os.listdir(tmp_path) == []
