"""Measuring over RPC: TVM's own tracker and servers, any number of devices under one key."""

from __future__ import annotations

from tvm_bridge.devices import tracker_devices
from tvm_bridge.measure.base import DeviceError
from tvm_bridge.measure.compiling import Compiling
from tvm_bridge.measure.jobs import Timing, Tracker
from tvm_bridge.measure.pipeline import Limits


class RPC(Compiling):
    """Builds on this machine and measures on devices that a tracker knows.

    Every candidate gets a session of its own, on whichever device is free. If a device is lost while it runs, the candidate is
    measured again on another; after three losses it counts as the cause. Start the tracker and, on each device, a server with
    `python -m tvm.exec.rpc_tracker --host=ADDRESS` and `python -m tvm.exec.rpc_server --host=ADDRESS --tracker=HOST:PORT
    --key=KEY`, with `TVM_NUM_THREADS` set to the target's `num-cores`. They do not authenticate, and without `--host` they
    listen to everybody: let ADDRESS be 127.0.0.1, or theirs in a network you trust.

    **Arguments:**

    - `host`, `port`: the tracker's address.
    - `key`: the name the devices are registered under.
    - `devices`: how many to use at once; None for all that are registered when measuring begins.
    - The rest as for `Local`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        key: str,
        *,
        devices: int | None = None,
        number: int = 1,
        repeat: int = 3,
        min_repeat_ms: int = 100,
        warmup: int = 1,
        cache_flush: bool = False,
        check: bool = True,
        build_limit: float = 10.0,
        run_limit: float = 10.0,
        builders: int | None = None,
    ) -> None:
        if devices is not None and devices < 1:
            raise ValueError(f"devices: {devices} must be at least 1; None takes all that are registered.")
        self._wanted = devices
        super().__init__(
            tracker=Tracker(host, port, key),
            timing=Timing(number, repeat, min_repeat_ms, warmup, cache_flush, check),
            limits=Limits(build_limit, run_limit),
            builders=builders,
        )

    def _devices(self) -> int:
        tracker = self._tracker
        assert tracker is not None
        registered = tracker_devices(tracker.host, tracker.port)
        if not registered[tracker.key]:
            raise DeviceError(
                f"the tracker {tracker.host}:{tracker.port} knows no device {tracker.key!r}, only {sorted(registered)}; "
                f"start one with python -m tvm.exec.rpc_server --host=127.0.0.1 --tracker={tracker.host}:{tracker.port} "
                f"--key={tracker.key}, or with the device's address in a network you trust as its host"
            )
        return self._wanted or registered[tracker.key]
