"""The main loop of a worker process: receive a job, say that it starts, do it, answer.

It is run as a script and imports nothing of the project: a job brings the module of its function.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection


def main() -> None:
    """Serve jobs from the socket whose number is the first argument, until the caller is gone.

    The modules that the other arguments name are loaded at once, while other processes start.
    """
    connection = Connection(int(sys.argv[1]))
    threading.Thread(target=_leave_with_caller, args=[connection.fileno()], daemon=True).start()
    with contextlib.suppress(Exception):  # a job that needs the module will say what is wrong
        for module in sys.argv[2:]:
            importlib.import_module(module)
    while True:
        try:
            try:
                function, args = connection.recv()  # loads the function's module
            except (EOFError, ConnectionError):
                return
            connection.send(("started", None))
            reply = ("value", function(*args))
        except Exception as error:
            traceback.print_exc()
            reply = ("exception", f"{type(error).__name__}: {error}")
        connection.send(reply)


def _leave_with_caller(descriptor: int) -> None:
    """End the process and what it has started when the caller hangs up, even in the middle of a job that never ends."""
    watch = select.poll()
    watch.register(descriptor, 0)
    watch.poll()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
