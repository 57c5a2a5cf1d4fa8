"""The main loop of a worker process: receive a job, say that it starts, do it, answer.

It is run as a script and imports nothing of the project: a job brings the module of its function.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import traceback
from multiprocessing.connection import Connection


def main() -> None:
    """Serve jobs from the socket whose number is the only argument, until the caller is gone."""
    connection = Connection(int(sys.argv[1]))
    threading.Thread(target=_leave_with_caller, args=[connection.fileno()], daemon=True).start()
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
    """End the process when the caller hangs up, even in the middle of a job that never ends."""
    watch = select.poll()
    watch.register(descriptor, 0)
    watch.poll()
    os._exit(1)


if __name__ == "__main__":
    main()
