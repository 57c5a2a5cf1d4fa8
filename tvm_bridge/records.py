"""Records: one JSON line a measurement, as AutoTVM writes its logs (format 0.2), plus the device and a failure's message.

A line is written by one call under a lock, so that a crash can only tear the last one and two writers never mix theirs. Paths
ending in .gz are compressed, a member a write.
"""

from __future__ import annotations

import fcntl
import functools
import gzip
import importlib.metadata
import json
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tvm_bridge.measure.base import ErrorCategory, Measurement
from tvm_bridge.target import Target
from tvm_bridge.workload import Conv2d

FAILED_SECONDS = 1e9
"""What a log shows as the time of a failure."""

DEFAULT_INDEX = -1
"""The index under which a log shows TVM's default schedule, which is no configuration of the space."""

TVM_VERSION = importlib.metadata.version("apache-tvm")

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class TaskKey(NamedTuple):
    """What identifies a task in records: the target, the operator and its arguments as JSON in one spelling."""

    target: Target
    operator: str
    args: str

    @classmethod
    def of(cls, target: Target, operator: str, args: Iterable[Any]) -> TaskKey:
        """The key of a task; AutoTVM's several ways to write a convolution's arguments count as one."""
        args = list(args)
        if operator in ("conv2d_nchw", "depthwise_conv2d_nchw"):
            args = Conv2d.from_args(operator, args).args
        return cls(target, operator, json.dumps(args))


@dataclass(frozen=True)
class Record:
    """One measurement and what was measured.

    - `key`: the task.
    - `index`: the configuration's number in the task's space, `DEFAULT_INDEX` for TVM's default schedule.
    - `config`: `{knob: factors or value}`; a first factor of -1 means what remains. Empty for the default.
    """

    key: TaskKey
    index: int
    config: dict[str, Any]
    measurement: Measurement

    def to_json(self) -> str:
        """The record as a line of a log, without its end."""
        entity = [
            [name, "sp", [-1, *value[1:]]] if isinstance(value, (tuple, list)) else [name, "ot", value]
            for name, value in self.config.items()
        ]
        result = self.measurement
        line = {
            "input": [str(self.key.target), f"{self.key.operator}.{self.key.target.kind}", json.loads(self.key.args), {}],
            "config": {"index": self.index, "code_hash": None, "entity": entity},
            "result": [list(result.seconds) or [FAILED_SECONDS], int(result.error), result.all_cost, result.timestamp],
            "version": 0.2,
            "tvm_version": TVM_VERSION,
        }
        extra = {"device": result.device, "message": result.message}
        return json.dumps(line | {name: text for name, text in extra.items() if text}, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> Record:
        """Read a line of a log.

        **Raises:** `ValueError` saying what is wrong with it.
        """
        try:
            fields = json.loads(line)
            key = _task_key(json.dumps(fields["input"][:3]))
            seconds, error, all_cost, timestamp = fields["result"]
            config = {
                knob: tuple(int(factor) for factor in value) if kind == "sp" else value
                for knob, kind, value in fields["config"]["entity"]
            }
            category = ErrorCategory(error)
            measurement = Measurement(
                tuple(float(second) for second in seconds) if category is ErrorCategory.NO_ERROR else (),
                category,
                str(fields.get("message", "")),
                float(all_cost),
                float(timestamp),
                str(fields.get("device", "")),
            )
            return cls(key, int(fields["config"]["index"]), config, measurement)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not a record of a measurement ({type(error).__name__}: {error})") from error


@functools.lru_cache(maxsize=4096)
def _task_key(task: str) -> TaskKey:
    """The key of the first three fields of a line's input, as JSON: a log repeats a task thousands of times."""
    text, name, args = json.loads(task)
    target = Target.parse(text)
    return TaskKey.of(target, name.removesuffix(f".{target.kind}"), args)


class RecordLog:
    """A log that is read once and appended to; several processes may append at the same time.

    Opening it mends what a crash has torn: a whole last record that lacks its newline gets it, anything less is cut off.

    **Arguments:**

    - `path`: the file; made, with its folder, if it is not there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._sound = 0  # the file is known to be whole up to here
        with _locked(self.path) as file:
            self._sound = _mend(file, self.path, self._sound)
        self.records = read_records(self.path)

    def append(self, record: Record) -> None:
        """Write a record and hand it to the operating system."""
        line = record.to_json().encode() + b"\n"
        with _locked(self.path) as file:
            _mend(file, self.path, self._sound)
            file.write(_deflated(line) if self.path.suffix == ".gz" else line)
            file.flush()
            self._sound = file.tell()


def read_records(paths: Paths) -> list[Record]:
    """Read the records of one or more logs in order; a path ending in .gz is decompressed.

    A damaged line is left out with a warning that names its file and number.

    **Raises:** `FileNotFoundError` if a log is not there.
    """
    records = []
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        for number, line in enumerate(_lines(Path(path)), start=1):
            if line.strip():
                try:
                    records.append(Record.from_json(line))
                except ValueError as error:
                    warnings.warn(f"{path}:{number}: left out, {error}.", stacklevel=2)
    return records


def best_records(paths: Paths) -> dict[TaskKey, Record]:
    """The fastest record of every task in one or more logs: `best_records(path)[task.key].config`."""
    best: dict[TaskKey, Record] = {}
    for record in read_records(paths):
        if record.measurement.cost < (best[record.key].measurement.cost if record.key in best else float("inf")):
            best[record.key] = record
    return best


def compress(path: str | os.PathLike[str]) -> None:
    """Rewrite a .gz log as one member, several times smaller, in one step that a crash cannot tear."""
    path = Path(path)
    with _locked(path):
        temporary = path.with_name(path.name + ".part")
        temporary.write_bytes(_deflated(b"\n".join(_lines(path))))
        temporary.replace(path)


def _lines(path: Path) -> list[bytes]:
    content = path.read_bytes()
    return (_inflated(content)[0] if path.suffix == ".gz" else content).split(b"\n")


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
    """Complete or cut off what a crash left behind `sound`; the file is whole afterwards, and its length returned."""
    file.seek(sound)
    tail = file.read()
    if path.suffix == ".gz":
        whole = _inflated(tail)[1]
    else:
        whole = tail.rfind(b"\n") + 1
        if whole < len(tail):
            try:
                Record.from_json(tail[whole:])
            except ValueError:
                pass
            else:
                file.write(b"\n")
                return file.tell()
    if whole < len(tail):
        warnings.warn(f"{path}: cut off {len(tail) - whole} bytes of a record that a crash left half-written.", stacklevel=4)
        file.truncate(sound + whole)
    return file.seek(0, os.SEEK_END)


def _deflated(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _inflated(content: bytes) -> tuple[bytes, int]:
    """The text of all gzip members, of a torn last one what can be read, and where the last whole member ends."""
    texts, end = [], 0
    while end < len(content):
        member, fed = zlib.decompressobj(wbits=31), end
        try:
            while not member.eof and fed < len(content):
                texts.append(member.decompress(content[fed : fed + 4096]))
                fed += 4096
        except zlib.error:
            break
        if not member.eof:
            break
        end = min(fed, len(content)) - len(member.unused_data)
    return b"".join(texts), end
