"""The memory that a process and all that it starts take together, at the worst moment."""

from __future__ import annotations

import contextlib
import threading
from typing import Self

import psutil


class PeakMemory:
    """Watches this process and its descendants; a context manager.

    - `peak`: the largest sum of their resident sets seen so far, in bytes; pages that they share count once for each.
    """

    def __init__(self, interval: float = 0.5) -> None:
        self.peak = 0
        self._interval, self._over = interval, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        this = psutil.Process()
        while True:
            with contextlib.suppress(psutil.Error):  # a child has just ended
                self.peak = max(self.peak, sum(map(_resident, [this, *this.children(recursive=True)])))
            if self._over.wait(self._interval):
                return


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:  # it has just ended
        return 0
