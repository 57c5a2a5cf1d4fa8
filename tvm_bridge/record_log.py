"""Logs that are appended to.

A line is written by one call under a lock, so that a crash can only tear the last one and two writers never mix theirs. Paths
ending in .gz are compressed, a member a write.
"""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tvm_bridge.log_lines import DAMAGED, deflated, inflated, lines
from tvm_bridge.records import Record, read_records

BEGINNING = b'{"input":'
"""How a record's line begins."""


class RecordLog:
    """A log that is read once and appended to; several processes may append at the same time.

    Opening it mends what a crash has torn: a whole last record that lacks its newline gets it, anything less is cut off.

    **Arguments:**

    - `path`: the file; made, with its folder, if it is not there.

    **Raises:** `ValueError` for a file that is something else, which is left as it is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._sound = 0  # the file is known to be whole up to here
        with _locked(self.path) as file:
            if _is_foreign(self.path):
                raise ValueError(f"log: {self.path} is not a log of measurements; name another file.")
            self._sound = _mend(file, self.path, self._sound)
        self.records = read_records(self.path)

    def append(self, record: Record) -> None:
        """Write a record and hand it to the operating system."""
        line = record.to_json().encode() + b"\n"
        with _locked(self.path) as file:
            _mend(file, self.path, self._sound)
            file.write(deflated(line) if self.path.suffix == ".gz" else line)
            file.flush()
            self._sound = file.tell()


def compress(path: str | os.PathLike[str]) -> None:
    """Rewrite a .gz log as one member, several times smaller, in one step that a crash cannot tear.

    **Raises:** `ValueError` for a log whose name does not end in .gz, `FileNotFoundError` if it is not there.
    """
    path = Path(path)
    if path.suffix != ".gz":
        raise ValueError(f"path: {path} is a plain log; give it a name that ends in .gz.")
    path.stat()
    with _locked(path) as file:
        _mend(file, path, 0)
        temporary = path.with_name(path.name + ".part")
        temporary.write_bytes(deflated(b"\n".join(lines(path))))
        temporary.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The file, open to read and append, while no other process writes to it."""
    while True:
        with open(path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return


def _mend(file: BinaryIO, path: Path, sound: int) -> int:
    """Complete or cut off what a crash left behind `sound`; the file is whole afterwards, and its length returned.

    **Raises:** `ValueError` if what would be cut off is nothing that a crash leaves of a record.
    """
    file.seek(sound)
    tail = file.read()
    if path.suffix == ".gz":
        text, whole = inflated(tail)
        rest, begin, newline = tail[whole:], b"\x1f\x8b\x08", deflated(b"\n")
        complete = not rest and not text.endswith(b"\n") and bool(text)
    else:
        whole = tail.rfind(b"\n") + 1
        rest, begin, newline = tail[whole:], BEGINNING, b"\n"
        complete = _is_record(rest)
    if complete:
        file.seek(0, os.SEEK_END)
        file.write(newline)
    elif sound and (rest or os.fstat(file.fileno()).st_size < sound):
        return _mend(file, path, 0)  # the file was rewritten: `sound` is no longer the end of a record
    elif rest:
        written = rest.rstrip(b"\0")  # a machine that lost power can leave zeros
        if not (written.startswith(begin) or begin.startswith(written)):
            raise ValueError(f"log: {path} is not a log of measurements; name another file.")
        warnings.warn(f"{path}: cut off {len(rest)} bytes of a record that a crash left half-written.", stacklevel=4)
        file.truncate(sound + whole)
    return file.seek(0, os.SEEK_END)


def _is_record(line: bytes) -> bool:
    try:
        Record.from_json(line)
    except ValueError:
        return False
    return True


def _is_foreign(path: Path) -> bool:
    """Whether a file has lines, none of which can be, or can have been, a record; a torn one may have lost most of itself."""
    written = [line for each in lines(path) if (line := each.strip(b"\0 \t\r")) and not BEGINNING.startswith(line)]
    return bool(written) and not any(b'"input"' in line or line.startswith(DAMAGED) for line in written)
