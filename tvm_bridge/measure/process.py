"""A process that does one job at a time under a time limit, and whose crash or hang costs that job and nothing else.

The process is started fresh (never forked: the caller may have loaded JAX) and lives from job to job. The limit starts when the
job does: the process says so once it has loaded what the job needs.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from tvm_bridge.measure import worker

STARTUP_LIMIT = 120.0
"""Seconds a process may take to load its modules."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a value, or by "timeout", "crash" or "exception" and a message."""

    value: Any = None
    failure: str = ""
    message: str = ""
    seconds: float = 0.0


class Worker:
    """One process and the job it is doing.

    **Arguments:**

    - `environment`: variables set for the process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._complaints: Any = None
        self._limit = 0.0
        self._began = 0.0
        self._started = False
        self.job: Any = None

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self.job is not None

    @property
    def alive(self) -> bool:
        """Whether there is a process; a new one knows nothing of earlier jobs."""
        return self._process is not None

    @property
    def connection(self) -> Connection:
        """What becomes readable when the job says something."""
        assert self._connection is not None
        return self._connection

    @property
    def deadline(self) -> float:
        """When the job will be stopped, on `time.monotonic`'s clock."""
        return self._began + (self._limit if self._started else STARTUP_LIMIT)

    def submit(self, job: Any, function: Callable[..., Any], *args: Any, limit: float) -> None:
        """Start `function(*args)`, a function of an importable module; `job` is the caller's mark for it."""
        assert not self.busy
        for attempt in range(2):
            if self._process is None:
                self._start()
            try:
                self.connection.send((function, args))
                break
            except (BrokenPipeError, ConnectionError):  # died between jobs
                self.stop()
                if attempt:
                    raise
        self.job, self._limit, self._began, self._started = job, limit, time.monotonic(), False

    def poll(self) -> Outcome | None:
        """How the job ended, or None while it runs. A job past its limit is stopped with its process."""
        assert self.busy
        try:
            while self.connection.poll():
                kind, value = self.connection.recv()
                if kind == "started":
                    self._started, self._began = True, time.monotonic()
                else:
                    return self._end(Outcome(value) if kind == "value" else Outcome(failure="exception", message=value))
        except (EOFError, ConnectionError):
            return self._end(Outcome(failure="crash", message=self._last_words()), kill=True)
        if time.monotonic() > self.deadline:
            return self._end(Outcome(failure="timeout", message=f"stopped after {self._limit:g} s"), kill=True)
        return None

    def call(self, function: Callable[..., Any], *args: Any, limit: float) -> Outcome:
        """Do one job and wait for it."""
        self.submit(function, function, *args, limit=limit)
        while True:
            self.connection.poll(max(0.0, self.deadline - time.monotonic()) + 0.01)
            outcome = self.poll()
            if outcome is not None:
                return outcome

    def stop(self) -> None:
        """End the process and drop its job; the next job starts a new one."""
        self.job = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.connection.close()
            self._complaints.close()
            self._process = self._connection = None

    def _end(self, outcome: Outcome, *, kill: bool = False) -> Outcome:
        seconds = time.monotonic() - self._began
        self.job = None
        if kill:
            self.stop()
        return Outcome(outcome.value, outcome.failure, outcome.message, seconds)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", worker.__file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._complaints,
                stderr=self._complaints,
                env=os.environ | {"PYTHONPATH": path} | self._environment,
                start_new_session=True,  # Ctrl-C is for the caller, who stops the process
            )
        finally:
            theirs.close()
        self._connection = Connection(ours.detach())

    def _last_words(self) -> str:
        """What killed the process, and the end of what it wrote."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # it hung up without ending
            self._process.kill()
            code = self._process.wait()
        self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, self._complaints.tell() - 2000))
        words = self._complaints.read().decode(errors="replace").strip().splitlines()
        cause = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        return ": ".join([f"the process died by {cause}", *words[-1:]])
