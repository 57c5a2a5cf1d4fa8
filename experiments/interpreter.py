"""A program run by another Python interpreter, which answers each request, a line of JSON, with a line of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import Any


class Interpreter:
    """The process of such a program.

    **Arguments:**

    - `python`: the path of the interpreter.
    - `arguments`: the program's file and its arguments.

    **Raises:** `OSError` if it cannot be started.
    """

    def __init__(self, python: str, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if "VERBOSE" not in name}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(  # in a session of its own: Ctrl-C is for the caller
            [python, *arguments], stdin=pipe, stdout=pipe, text=True, env=environment, start_new_session=True
        )

    @property
    def alive(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def ask(self, request: Any) -> Any:
        """The answer to a request.

        **Raises:** `RuntimeError` if the process ends meanwhile.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # that it has ended is told below
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        """The next line; the first may come unasked.

        **Raises:** `RuntimeError` if the process ends before it.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError("the other interpreter's process ended; what it wrote above says why")
        return json.loads(line)
