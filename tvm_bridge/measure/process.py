"""A process that does one job at a time under a time limit, and whose crash or hang costs that job and nothing else.

The process is started fresh (never forked: the caller may have loaded JAX) and lives from job to job. The limit starts when the
job does: the process says so once it has loaded what the job needs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from tvm_bridge.measure import worker

STARTUP_LIMIT = 120.0
"""Seconds a process may take to load its modules."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a value, or by "timeout", "crash" or "exception" and a message.

    `started` is False if its process ended before the work began, which is not the job's fault.
    """

    value: Any = None
    failure: str = ""
    message: str = ""
    seconds: float = 0.0
    started: bool = True


class Worker:
    """One process and the job it is doing.

    **Arguments:**

    - `environment`: variables set for the process.
    - `modules`: names of modules that it loads as it starts.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, *, modules: Sequence[str] = ()) -> None:
        self._environment = dict(environment or {})
        self._modules = list(modules)
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
        """Whether the process lives; a new one knows nothing of earlier jobs."""
        return self._process is not None and self._process.poll() is None

    @property
    def connection(self) -> Connection:
        """What becomes readable when the job says something."""
        assert self._connection is not None
        return self._connection

    @property
    def deadline(self) -> float:
        """When the job will be stopped, on `time.monotonic`'s clock."""
        return self._began + (self._limit if self._started else STARTUP_LIMIT)

    def start(self) -> None:
        """Start the process, unless it lives: it loads while others do."""
        if not self.alive:
            self.stop()
            self._start()

    def submit(self, job: Any, function: Callable[..., Any], *args: Any, limit: float, restart: bool = True) -> bool:
        """Start `function(*args)`, a function of an importable module; `job` is the caller's mark for it.

        **Returns:** whether the job was started: always, unless the process has died and may not be replaced.
        """
        assert not self.busy
        for _ in range(2):
            if not self.alive and not restart:
                return False
            self.start()
            # Marked before it is sent: an interrupt in between must not leave a process at work that counts as idle.
            self.job, self._limit, self._began, self._started = job, limit, time.monotonic(), False
            try:
                self.connection.send((function, args))
                return True
            except (BrokenPipeError, ConnectionError):  # died since
                self.stop()
        raise RuntimeError("worker processes die as they start; does this Python import tvm_bridge?")

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
            limit = self._limit if self._started else STARTUP_LIMIT
            return self._end(Outcome(failure="timeout", message=f"stopped after {limit:g} s"), kill=True)
        return None

    def call(self, function: Callable[..., Any], *args: Any, limit: float) -> Outcome:
        """Do one job and wait for it."""
        try:
            self.submit(function, function, *args, limit=limit)
            while True:
                self.connection.poll(max(0.0, self.deadline - time.monotonic()) + 0.01)
                outcome = self.poll()
                if outcome is not None:
                    return outcome
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process, with the compilers it may have started, and drop its job; the next job starts a new one."""
        self.job = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self.connection.close()
            self._complaints.close()
            self._process = self._connection = None

    def _end(self, outcome: Outcome, *, kill: bool = False) -> Outcome:
        seconds = time.monotonic() - self._began
        self.job = None
        if kill:
            self.stop()
        return replace(outcome, seconds=seconds, started=self._started)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", worker.__file__, str(theirs.fileno()), *self._modules],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._complaints,
                stderr=self._complaints,
                env=os.environ | {"PYTHONPATH": path} | self._environment,
                start_new_session=True,  # Ctrl-C is for the caller, who stops the whole group
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
