"""Jobs that misbehave, for worker processes to survive."""

import ctypes
import os
import subprocess
import time


def add_one(number: int) -> int:
    return number + 1


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def crash() -> None:
    ctypes.string_at(0)


def leave(code: int) -> None:
    os.write(2, b"some last words\n")
    os._exit(code)


def refuse() -> None:
    raise ValueError("not like this")


def variable(name: str) -> str | None:
    return os.environ.get(name)


def process() -> int:
    return os.getpid()


def hang_holding_the_interpreter() -> None:
    """Busy in C without releasing the interpreter's lock."""
    ctypes.PyDLL(None).sleep(60)


def hold(name: str) -> bool:
    """Take the lock of a device and keep it for as long as the process lives."""
    from tvm_bridge.measure.device_lock import DeviceLock

    globals()["kept"] = DeviceLock(name)
    return globals()["kept"].acquire()


def leave_a_child() -> None:
    """Start a process, say who it is, and hang."""
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    time.sleep(60)
