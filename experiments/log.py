"""Logs of long experiments: one JSON line a result, written at once, and read by the run that goes on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path


def read(path: Path) -> list[dict]:
    """The lines of a log, none if it is not there; a last line that a crash has torn is left out with a warning."""
    lines = path.read_text().split("\n") if path.exists() else []
    results = [json.loads(line) for line in lines[:-1]]  # what follows the last newline is nothing, or torn
    if lines and lines[-1]:
        warnings.warn(f"{path}: the last line is torn and left out.", stacklevel=2)
    return results


def append(path: Path, *lines: dict) -> None:
    """Append lines."""
    extend(path, lambda _: lines)


def extend(path: Path, results: Callable[[list[dict]], Iterable[dict]]) -> None:
    """Append what `results` yields, given what the log holds already; each line is flushed as it comes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = read(path)
    with path.open("a+b") as file:
        if file.tell() and not path.read_bytes().endswith(b"\n"):
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
        for result in results(known):
            file.write(json.dumps(result).encode() + b"\n")
            file.flush()
