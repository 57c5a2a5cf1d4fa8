"""Measuring over RPC on loopback: a tracker, three servers, and one of them dying half-way."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

import psutil
import pytest

import tvm_bridge as bridge
from tests.tvm_bridge.measure.kernels import calling, small_task
from tvm_bridge.devices import tracker_devices
from tvm_bridge.measure import pipeline

SERVERS, CANDIDATES = 3, 8
"""Enough candidates that every server has some after the first few."""


def test_a_number_of_devices_that_measures_nothing_is_refused():
    with pytest.raises(ValueError, match="devices: 0 must be at least 1; None takes all"):
        bridge.RPC("127.0.0.1", 9190, "cpu", devices=0)


@contextmanager
def daemon(*arguments):
    """A server that runs until it is killed."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        kill(process)


def kill(process):
    """As if its machine lost power: the server and the processes of its sessions."""
    if process.poll() is None:
        for descendant in psutil.Process(process.pid).children(recursive=True):
            descendant.kill()
        process.kill()
        process.wait()


def kill_at_work(server):
    """Kill a server in the middle of a session, when its processes have used the processor."""

    def busy():
        return [each for each in psutil.Process(server.pid).children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE]

    deadline = time.monotonic() + 30
    while len(busy()) < 2 and time.monotonic() < deadline:  # the server itself, and a session
        time.sleep(0.01)
    time.sleep(0.3)
    kill(server)


@pytest.fixture(scope="module")
def devices():
    """A tracker with servers under the key "cpu": its port, and the servers that are alive."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = min(probe.getsockname()[1], 65_000)
    with ExitStack() as stack:
        stack.enter_context(daemon("tvm.exec.rpc_tracker", "--host=127.0.0.1", f"--port={port}", f"--port-end={port + 1}"))
        server = ["tvm.exec.rpc_server", "--host=127.0.0.1", f"--tracker=127.0.0.1:{port}", "--key=cpu"]
        ports = [f"--port={port + 1}", f"--port-end={port + 20}"]
        processes = [stack.enter_context(daemon(*server, *ports)) for _ in range(SERVERS)]
        deadline = time.monotonic() + 60
        while True:
            try:
                if tracker_devices("127.0.0.1", port)["cpu"] == SERVERS:
                    break
            except bridge.DeviceError:
                pass
            assert time.monotonic() < deadline, "the servers did not register"
            time.sleep(0.2)
        yield port, processes


@pytest.mark.parametrize("attempts", [3, 1])
def test_a_dying_server_loses_no_candidate(devices, monkeypatch, attempts):
    monkeypatch.setattr(pipeline, "ATTEMPTS", attempts)
    port, servers = devices
    timing = {"check": False, "min_repeat_ms": 1, "repeat": 1, "builders": 1}
    with bridge.RPC("127.0.0.1", port, "cpu", **timing) as measurer:
        results = {}
        for position, measurement in measurer.stream(calling("usleep", 20_000), [None] * CANDIDATES):
            assert position not in results
            results[position] = measurement
            if len(results) == 2:
                threading.Thread(target=kill_at_work, args=[servers.pop()]).start()
    assert sorted(results) == list(range(CANDIDATES))
    failed = [measurement for measurement in results.values() if not measurement.ok]
    assert len(failed) == (1 if attempts == 1 else 0)
    for measurement in failed:
        assert measurement.error is bridge.ErrorCategory.RUNTIME_DEVICE
        assert "failed on 1 devices" in measurement.message
    assert {measurement.device for measurement in results.values()} == {"cpu (RPC)"}


def test_unknown_key_and_absent_tracker_are_device_errors(devices):
    task = small_task()
    unknown = pytest.raises(bridge.DeviceError, match=r"knows no device 'phone', only \['cpu'\]")
    with bridge.RPC("127.0.0.1", devices[0], "phone", builders=1) as measurer, unknown:
        measurer.device(task)
    with (
        bridge.RPC("127.0.0.1", 1, "cpu", builders=1) as measurer,
        pytest.raises(bridge.DeviceError, match="no RPC tracker answers"),
    ):
        measurer.device(task)
