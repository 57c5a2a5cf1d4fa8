"""One device is measured by one process at a time: a lock that processes of a user share, and take in turns."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
from pathlib import Path
from typing import IO, Self

from tvm_bridge.measure.base import DeviceError

PAUSE = 0.005
"""Seconds between two looks at a lock that another process has."""


class DeviceLock:
    """The right to measure on a device, held by one process at a time.

    Two files are locked: who comes next holds the first until it has the second. A process that lets go and comes back at once
    so finds itself behind the one that has waited. The system lets go of what a dead process held.

    Processes share it that have the same temporary folder and user. Use it as a context manager to wait for it.

    **Arguments:**

    - `name`: the device's.

    **Attributes:**

    - `waiting`: whether it was asked for, and another process has it.

    **Raises:** `DeviceError` if the folder of the locks is another user's.
    """

    def __init__(self, name: str) -> None:
        folder = Path(tempfile.gettempdir(), f"gausstune-locks-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise DeviceError(f"{folder} is another user's, so no device can be locked there; set TMPDIR to a folder of yours.")
        plain = re.sub(r"[^\w.-]", "_", name)
        self._next = _File(folder / f"{plain}.next")
        self._turn = _File(folder / f"{plain}.turn")
        self.waiting = False

    @property
    def held(self) -> bool:
        """Whether this lock is held here."""
        return self._turn.held

    def acquire(self) -> bool:
        """Take the lock, or at least the next turn, without waiting; returns whether it is held. Ask again until it is."""
        if not self.held and self._next.take() and self._turn.take():
            self._next.release()
        self.waiting = not self.held
        return self.held

    def release(self) -> None:
        """Let go of the lock, or of the turn that was waited for."""
        self.waiting = False
        self._turn.release()
        self._next.release()

    def __enter__(self) -> Self:
        try:
            while not self.acquire():
                time.sleep(PAUSE)
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


class _File:
    """A file that is locked while it is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    @property
    def held(self) -> bool:
        return self._file is not None

    def take(self) -> bool:
        if self._file is None:
            file = open(self._path, "ab")  # noqa: SIM115 - closed by `release`
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._file = file
                return True
            file.close()
        return self.held

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
