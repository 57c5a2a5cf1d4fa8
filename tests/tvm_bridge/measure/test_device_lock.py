"""One at a time has a device, and those that wait get it in turns."""

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tvm_bridge.measure.base import DeviceError
from tvm_bridge.measure.device_lock import DeviceLock


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """Makes locks in a folder of the test's own, as different processes do, and lets go of them in the end."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = []

    def lock(name):
        made.append(DeviceLock(name))
        return made[-1]

    yield lock
    for each in made:
        each.release()


def test_whoever_waits_is_next(lock):
    first, second = lock("gpu"), lock("gpu")
    assert first.acquire()
    assert not second.acquire()
    assert (first.waiting, second.waiting) == (False, True)
    first.release()
    assert not first.acquire()  # although nobody has it: the second is next
    assert second.acquire()
    assert not first.acquire()
    second.release()
    assert not second.acquire()
    assert first.acquire()
    assert (first.held, second.held) == (True, False)


def test_who_gives_up_waiting_is_no_longer_next(lock):
    first, second, third = (lock("gpu") for _ in range(3))
    first.acquire()
    second.acquire()
    second.release()
    assert not third.acquire()
    first.release()
    assert not second.acquire()
    assert third.acquire()


def test_devices_are_locked_one_by_one(lock):
    assert lock("GPU-1").acquire()
    assert lock("GPU-2").acquire()
    assert not lock("GPU-1").acquire()


def test_waiting_ends_when_the_other_lets_go(lock):
    mine, other = lock("gpu"), lock("gpu")

    def wait():
        with other:
            return other.held

    assert mine.acquire()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait)
        while not (other.waiting or waiting.done()):
            time.sleep(0.001)
        assert not waiting.done()
        mine.release()
        assert waiting.result()
    assert not other.held


def test_folder_is_the_users_own(lock, tmp_path, monkeypatch):
    assert lock("../a b").acquire()
    (made,) = tmp_path.iterdir()
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert all(path.parent == made for path in tmp_path.rglob("*.*"))
    another = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: another)
    made.rename(made.with_name(f"gausstune-locks-{another}"))
    with pytest.raises(DeviceError, match=r"another user's.*set TMPDIR"):
        lock("gpu")
