"""What there is to measure on: this machine's devices and those of an RPC tracker."""

from __future__ import annotations

import socket
from collections import Counter

import tvm.rpc

from tvm_bridge.measure import jobs
from tvm_bridge.measure.base import DeviceError
from tvm_bridge.measure.process import Worker
from tvm_bridge.target import Target


def local_devices() -> list[tuple[str, str]]:
    """Kind of target and name of each device of this machine; asked in a process that ends, so that none stays open."""
    target = Target("llvm").resolve()
    devices = []
    for kind in ("llvm", "cuda"):
        worker = Worker({"TVM_NUM_THREADS": str(target.threads)})
        outcome = worker.call(jobs.local_device, kind, limit=60.0)
        worker.stop()
        if isinstance(outcome.value, str):
            devices.append((kind, f"{outcome.value}; target '{Target(kind).resolve()}'"))
        else:
            devices.append((kind, "none: " + (outcome.message or outcome.value.message)))
    return devices


def tracker_devices(host: str, port: int) -> Counter[str]:
    """How many devices a tracker knows under each key.

    **Raises:** `DeviceError` if no tracker answers.
    """
    try:
        socket.create_connection((host, port), timeout=10).close()  # TVM would go on trying for a minute
        tracker = tvm.rpc.connect_tracker(host, port)
        servers = tracker.summary()["server_info"]
        tracker.close()
    except Exception as error:
        raise DeviceError(f"no RPC tracker answers at {host}:{port}: {error}") from error
    return Counter(server["key"].removeprefix("server:") for server in servers)
