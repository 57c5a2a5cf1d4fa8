"""A worker process survives what its jobs do, and its limits count from the start of the work."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.tvm_bridge.measure import misbehaviour
from tvm_bridge.measure.process import Worker


@pytest.fixture
def worker():
    worker = Worker({"GAUSSTUNE_TEST": "set"})
    yield worker
    worker.stop()


def test_value_comes_back_and_the_process_is_reused(worker):
    first = worker.call(misbehaviour.process, limit=10)
    assert worker.call(misbehaviour.add_one, 1, limit=10).value == 2
    assert worker.call(misbehaviour.process, limit=10).value == first.value != os.getpid()


def test_environment_reaches_the_process(worker):
    assert worker.call(misbehaviour.variable, "GAUSSTUNE_TEST", limit=10).value == "set"


@pytest.mark.parametrize(
    ("job", "arguments", "failure", "message"),
    [
        (misbehaviour.crash, (), "crash", "signal 11"),
        (misbehaviour.leave, (3,), "crash", "exit code 3: some last words"),
        (misbehaviour.refuse, (), "exception", "ValueError: not like this"),
        (misbehaviour.sleep, (60,), "timeout", "stopped after 0.2 s"),
        (misbehaviour.hang_holding_the_interpreter, (), "timeout", "stopped after 0.2 s"),
    ],
)
def test_misbehaviour_costs_one_job(worker, job, arguments, failure, message):
    outcome = worker.call(job, *arguments, limit=0.2 if failure == "timeout" else 30)
    assert (outcome.failure, outcome.value) == (failure, None)
    assert message in outcome.message
    assert worker.call(misbehaviour.add_one, 1, limit=10).value == 2


def test_limit_does_not_count_the_start_of_the_process(worker):
    assert worker.call(misbehaviour.add_one, 1, limit=0.001).value == 2  # starting Python alone takes longer


def test_process_killed_between_jobs_is_replaced(worker):
    os.kill(worker.call(misbehaviour.process, limit=10).value, signal.SIGKILL)
    time.sleep(0.1)
    assert worker.call(misbehaviour.add_one, 1, limit=10).value == 2


def test_children_of_a_stopped_job_are_stopped_too(worker):
    worker.submit("job", misbehaviour.leave_a_child, limit=1.0)
    child = None
    while (outcome := worker.poll()) is None:
        child = child or next(iter(psutil.Process(worker._process.pid).children()), None)
        time.sleep(0.01)
    assert outcome.failure == "timeout"
    assert child is not None
    assert _dies(child.pid)


def test_job_is_not_given_to_a_process_that_replaced_a_dead_one(worker):
    worker.call(misbehaviour.add_one, 1, limit=10)
    worker._process.kill()
    worker._process.wait()
    assert not worker.alive
    assert not worker.submit("job", misbehaviour.add_one, 1, limit=10, restart=False)
    assert not worker.busy


def test_interrupted_call_leaves_no_job_behind(worker, monkeypatch):
    monkeypatch.setattr(worker, "poll", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        worker.call(misbehaviour.sleep, 60, limit=60)
    monkeypatch.undo()
    assert worker.call(misbehaviour.add_one, 1, limit=10).value == 2


def test_death_before_the_work_began_is_told_apart(worker):
    worker.start()
    os.kill(worker._process.pid, signal.SIGSTOP)  # it cannot say that it starts
    worker.submit("job", misbehaviour.add_one, 1, limit=10)
    worker._process.kill()
    while (outcome := worker.poll()) is None:
        time.sleep(0.01)
    assert (outcome.failure, outcome.started) == ("crash", False)


def test_process_leaves_with_its_caller_even_in_the_middle_of_a_job():
    script = (
        "from tvm_bridge.measure.process import Worker\n"
        "from tests.tvm_bridge.measure import misbehaviour\n"
        "worker = Worker()\n"
        "print(worker.call(misbehaviour.process, limit=10).value, flush=True)\n"
        "worker.call(misbehaviour.sleep, 60, limit=60)\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as caller:
        orphan = int(caller.stdout.readline())
        caller.kill()
    assert _dies(orphan)


def _dies(process: int, within: float = 10.0) -> bool:
    """Whether a process that was told to end does so: a signal takes effect when the process is next run."""
    deadline = time.monotonic() + within
    while _alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _alive(process)


def _alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
