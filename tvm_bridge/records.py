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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tvm_bridge.measure.base import ErrorCategory, Measurement
from tvm_bridge.target import Target
from tvm_bridge.workload import WORKLOADS, from_args

FAILED_SECONDS = 1e9
"""What a log shows as the time of a failure."""

DEFAULT_INDEX = -1
"""The index under which a log shows TVM's default schedule, which is no configuration of the space."""

FOLDER_LOG = "records.jsonl"
"""The log in the folder of a network's tuning."""

TVM_VERSION = importlib.metadata.version("apache-tvm")

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class TaskKey(NamedTuple):
    """What identifies a task in records.

    The target, the operator, its arguments as JSON in one spelling, and the digest of a function that has more to it (a fused
    epilogue), empty for the operator alone.
    """

    target: Target
    operator: str
    args: str
    function: str = ""

    @classmethod
    def of(cls, target: Target, operator: str, args: Iterable[Any], function: str = "") -> TaskKey:
        """The key of a task; AutoTVM's several ways to write an operator's arguments count as one."""
        args = list(args)
        if operator in WORKLOADS:
            args = from_args(operator, args).args
        return cls(target, operator, json.dumps(args), function)


@dataclass(frozen=True)
class Record:
    """One measurement and what was measured.

    - `key`: the task.
    - `index`: the configuration's number in the task's space, `DEFAULT_INDEX` for TVM's default schedule.
    - `config`: `{knob: factors or value}`; a first factor of -1 means what remains. None for the default.
    - `candidates`: the options of the knobs whose options were not the template's; they bear on the index alone.
    """

    key: TaskKey
    index: int
    config: dict[str, Any] | None
    measurement: Measurement
    candidates: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def to_json(self) -> str:
        """The record as a line of a log, without its end."""
        entity = [_entity(name, value) for name, value in (self.config or {}).items()]
        operator = f"{self.key.operator}.{self.key.target.kind}" if self.key.operator in WORKLOADS else self.key.operator
        extra_input = {"function": self.key.function, "candidates": self.candidates}
        result = self.measurement
        line = {
            "input": [str(self.key.target), operator, json.loads(self.key.args), {k: v for k, v in extra_input.items() if v}],
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
            key = _task_key(json.dumps(fields["input"]))
            seconds, error, all_cost, timestamp = fields["result"]
            config = {
                knob: tuple(int(factor) for factor in value) if kind == "sp" else value
                for knob, kind, value in fields["config"]["entity"]
            }
            category = ErrorCategory(error)
            if category is ErrorCategory.NO_ERROR and not seconds:
                raise ValueError("it has neither a time nor an error")
            measurement = Measurement(
                tuple(float(second) for second in seconds) if category is ErrorCategory.NO_ERROR else (),
                category,
                str(fields.get("message", "")),
                float(all_cost),
                float(timestamp),
                str(fields.get("device", "")),
            )
            index = int(fields["config"]["index"])
            candidates = {
                knob: tuple(tuple(option) if isinstance(option, list) else option for option in options)
                for knob, options in (fields["input"][3].get("candidates", {}) if len(fields["input"]) > 3 else {}).items()
            }
            return cls(key, index, None if index == DEFAULT_INDEX else config, measurement, candidates)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a record of a measurement ({type(error).__name__}: {error})") from error


@functools.lru_cache(maxsize=4096)
def _task_key(task: str) -> TaskKey:
    """The key of a line's input, as JSON: a log repeats a task thousands of times."""
    text, name, args, *more = json.loads(task)
    target = Target.parse(text)
    operator = name.removesuffix(f".{target.kind}")
    function = str(more[0].get("function", "")) if more else ""
    return TaskKey.of(target, operator if operator in WORKLOADS else name, args, function)


def _entity(name: str, value: Any) -> list[Any]:
    """A knob as AutoTVM logs it: a split, an order of axes, their annotations, or any other choice."""
    if isinstance(value, tuple):
        return [name, "sp", [-1, *value[1:]]]
    if isinstance(value, list):
        return [name, "re" if all(isinstance(axis, int) for axis in value) else "an", value]
    return [name, "ot", value]


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


def gather(argument: str, given: Paths | Iterable[Record] | None) -> list[Record]:
    """Records given as such, as logs, or as the folder that `tune_network` wrote.

    **Raises:** `FileNotFoundError` naming the argument if one is not there.
    """
    items = [given] if isinstance(given, (str, os.PathLike)) else given or ()
    gathered: list[Record] = []
    for item in items:
        if isinstance(item, Record):
            gathered.append(item)
            continue
        path = Path(item)
        path = path / FOLDER_LOG if path.is_dir() else path
        if not path.exists():
            raise FileNotFoundError(f"{argument}: {path} is not there; give records, logs, or a tuning's folder.")
        gathered += read_records(path)
    return gathered


def best_records(paths: Paths) -> dict[TaskKey, Record]:
    """The fastest record of every task in one or more logs: `best_records(path)[task.key].config`."""
    best: dict[TaskKey, Record] = {}
    for record in read_records(paths):
        if record.measurement.cost < (best[record.key].measurement.cost if record.key in best else float("inf")):
            best[record.key] = record
    return best


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
    """Complete or cut off what a crash left behind `sound`; the file is whole afterwards, and its length returned.

    **Raises:** `ValueError` if what would be cut off is nothing that a crash leaves of a record.
    """
    file.seek(sound)
    tail = file.read()
    if path.suffix == ".gz":
        text, whole = _inflated(tail)
        rest, begin, newline = tail[whole:], b"\x1f\x8b\x08", _deflated(b"\n")
        complete = not rest and not text.endswith(b"\n") and bool(text)
    else:
        whole = tail.rfind(b"\n") + 1
        rest, begin, newline = tail[whole:], b'{"input":', b"\n"
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


def _deflated(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _inflated(content: bytes) -> tuple[bytes, int]:
    """The text of all gzip members and where the last whole one ends; of a torn last one what can be read.

    A damaged member is passed over, and a line that is no record takes its place.
    """
    texts: list[bytes] = []
    start = end = 0
    while 0 <= start < len(content):
        text, length = _member(content, start)
        if length:
            texts.append(text)
            start = end = start + length
        else:
            after = content.find(b"\x1f\x8b\x08", start + 1)
            while after > 0 and not _member(content, after)[1]:
                after = content.find(b"\x1f\x8b\x08", after + 1)
            texts.append(text if after < 0 else text + b"(damaged)\n")
            start = after
    return b"".join(texts), end


def _member(content: bytes, start: int) -> tuple[bytes, int]:
    """What can be read of the gzip member that starts here, and its length, 0 if it is not whole."""
    member, texts, fed = zlib.decompressobj(wbits=31), [], start
    try:
        while not member.eof and fed < len(content):
            texts.append(member.decompress(content[fed : fed + 4096]))
            fed += 4096
    except zlib.error:
        return b"".join(texts), 0
    return b"".join(texts), min(fed, len(content)) - len(member.unused_data) - start if member.eof else 0
