"""The folder of a network's tuning: what is tuned, every measurement, and a line for every round.

- `network.json`: the network, its tasks, and how they are tuned.
- `records.jsonl`: a log of all tasks' measurements.
- `rounds.jsonl`: which task got measurements when, the seconds that took, and what the network then was predicted to take.

Benchmarks add `latency.jsonl`, choices of layouts `transpositions.jsonl`.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tvm_bridge.network.extract import Extraction
from tvm_bridge.record_log import RecordLog
from tvm_bridge.records import FOLDER_LOG, Record
from tvm_bridge.target import Target

DESCRIPTION = "network.json"
ROUNDS = "rounds.jsonl"


@dataclass(frozen=True)
class Round:
    """Measurements that one task got.

    - `task`: its name.
    - `trials`: how many measurements.
    - `seconds_searching`, `seconds_measuring`: time spent choosing and measuring.
    - `best_seconds`, `network_seconds`: the task's best time, and the sum over the tasks of the network; infinite if unknown.
    """

    task: str
    trials: int
    seconds_searching: float
    seconds_measuring: float
    best_seconds: float
    network_seconds: float


class Folder:
    """A network's tuning on disk; tuning that is started again with its folder goes on from what it holds.

    **Arguments:**

    - `path`: the folder; made if it is not there.
    - `description`: what `network.json` is to say; see `describe`.

    **Raises:** `ValueError` for a folder in which something else was tuned.
    """

    def __init__(self, path: str | os.PathLike[str], description: Mapping[str, Any]) -> None:
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise ValueError(f"log: {path} is a file; name a folder.")
        before = _budget_before(path / DESCRIPTION, description)
        self.records = RecordLog(path / FOLDER_LOG)
        whole = {**description, "trials": max(before or 0, description["trials"])}
        _write(path / DESCRIPTION, json.dumps(whole, indent=1) + "\n")
        self._path = path / ROUNDS
        self._known = [] if before is None else _whole_lines(self._path)
        self._smaller = bool(self._known) and description["trials"] < (before or 0)
        self._number = 0
        _write(self._path, "".join(line + "\n" for line in self._known))  # without what a crash has torn

    def append(self, round_: Round) -> None:
        """Write a round, unless it is one gone through again: the file keeps the seconds that it took at first.

        A smaller budget than the folder's goes through rounds of its own; the file keeps the larger one's.
        """
        if self._smaller:
            return
        if self._number < len(self._known):
            held = json.loads(self._known[self._number])
            if (held.get("task"), held.get("trials")) == (round_.task, round_.trials):
                self._number += 1
                return
            if held.get("task") == round_.task:  # the same round with a larger budget: what it took before is not gone
                round_ = replace(
                    round_,
                    seconds_searching=round_.seconds_searching + held.get("seconds_searching", 0.0),
                    seconds_measuring=round_.seconds_measuring + held.get("seconds_measuring", 0.0),
                )
            del self._known[self._number :]  # from here on tuning takes another way: with a larger budget for example
            _write(self._path, "".join(line + "\n" for line in self._known))
        fields = {name: None if value == math.inf else value for name, value in asdict(round_).items()}
        with open(self._path, "a") as file:
            file.write(json.dumps(fields | {"timestamp": time.time()}) + "\n")


def describe(
    extraction: Extraction,
    *,
    method: str,
    seed: int,
    trials: int,
    history: Sequence[Record] | None = None,
    pretrained: str | None = None,
    asked: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What `network.json` says of a network and how it is tuned; of a history and fitted models, what tells them from others.

    `asked` is what else a command needs to do it again, by name; what is None is left out.
    """
    keys = [each.task.key for each in extraction.tasks]
    return {
        "network": extraction.network.name,
        "target": extraction.target.to_json(),
        "method": method,
        "seed": seed,
        "trials": trials,
        "history": None if history is None else _fingerprint(history),
        "pretrained": pretrained,
        "asked": {name: value for name, value in (asked or {}).items() if value is not None},
        "enlarged": any(each.task.enlarged for each in extraction.tasks),
        "tasks": [
            {
                "label": each.task.name,
                "operator": key.operator,
                "args": json.loads(key.args),
                "function": key.function,
                "count": each.count,
                "flop": each.task.flop,
            }
            for each, key in zip(extraction.tasks, keys, strict=True)
        ],
        "uncovered": [{"function": name, "count": count} for name, count in extraction.uncovered.items()],
    }


def layout_asked(folder: Path) -> str | None:
    """The layout that the network of a folder was tuned in; None if it was tuned as it comes.

    **Raises:** `FileNotFoundError` if the folder describes no network.
    """
    return json.loads((folder / DESCRIPTION).read_bytes()).get("asked", {}).get("layout")


def _fingerprint(records: Sequence[Record]) -> str:
    """A digest of what methods learn from records, in their order."""
    learned = (repr((record.key, record.candidates, record.config, record.measurement.cost)) for record in records)
    digest = hashlib.sha256("\n".join(learned).encode())
    return f"{len(records)} records, SHA-256 {digest.hexdigest()[:16]}"


def _same_target(before: Any, now: Any) -> bool:
    """Whether two say the same, whatever they say of caches."""
    try:
        return Target.parse(before) == Target.parse(now)
    except ValueError:
        return False


def _budget_before(path: Path, description: Mapping[str, Any]) -> int | None:
    """The budget of the tuning that a folder holds; None if it holds no measurement.

    The budget may differ, and what ends a task early; anything else would mix two tunings.

    **Raises:** `ValueError` naming what differs.
    """
    if not path.exists():
        return None
    try:
        held = dict(json.loads(path.read_bytes()))
    except ValueError as error:
        raise ValueError(f"log: {path} does not describe a network ({error}); name another folder.") from error
    log = path.with_name(FOLDER_LOG)
    if not log.exists() or not log.stat().st_size:
        return None
    for name in ("network", "target", "method", "seed", "history", "pretrained", "enlarged"):
        if not (_same_target if name == "target" else operator.eq)(held.get(name), description[name]):
            both = f"{held.get(name)!r}, not {description[name]!r}"
            raise ValueError(f"log: {path.parent} holds a tuning with {name} {both}; name another folder.")
    if held.get("tasks") != description["tasks"]:
        layouts = [each.get("asked", {}).get("layout") for each in (held, description)]
        if layouts[0] != layouts[1]:
            both = " and not ".join("as it comes" if layout is None else f"in {layout}" for layout in layouts)
            raise ValueError(f"log: {path.parent} holds a tuning of the network {both}; name another folder for this layout.")
        raise ValueError(f"log: {path.parent} holds a tuning of another network of this name; name another folder.")
    return int(held.get("trials", 0))


def _whole_lines(path: Path) -> list[str]:
    """The lines up to the first that a crash has torn."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            json.loads(line)
        except ValueError:
            break
        lines.append(line)
    return lines


def _write(path: Path, text: str) -> None:
    """Write a file in one step that a crash cannot tear."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text)
    temporary.replace(path)
