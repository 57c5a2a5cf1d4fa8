"""What the experiments' command lines share: errors as one line, Ctrl-C that says what is kept, pictures where there can be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tvm_bridge.arguments import fail

Complain = Callable[[str], None]
"""Says in a line what does not work or is left, while the rest goes on."""


def ended(program: str, work: Callable[[], int], kept: str) -> int:
    """Do a program's work; returns its exit code, 2 after an error, 130 after Ctrl-C, when `kept` is said of what was done."""
    try:
        return work()
    except (ValueError, OSError, LookupError, ImportError, ArithmeticError, RuntimeError) as error:
        return fail(program, error)
    except KeyboardInterrupt:
        print(f"{program}: stopped; {kept}", file=sys.stderr)
        return 130


def complaining(program: str, work: Callable[[Complain], None], kept: str) -> int:
    """The same of work that goes on with the rest where something does not work; the exit code is 1 if it complained."""
    complaints: list[str] = []

    def complain(text: str) -> None:
        complaints.append(text)
        print(f"{program}: {text}", file=sys.stderr, flush=True)

    def whole() -> int:
        work(complain)
        return 1 if complaints else 0

    return ended(program, whole, kept)


def pyplot(program: str) -> Any:
    """Matplotlib's pyplot; None, and a line that names the extra, where it is not installed."""
    try:
        from matplotlib import pyplot
    except ImportError:
        print(f"{program}: no picture; install the extra 'plot' for it", file=sys.stderr)
        return None
    return pyplot
