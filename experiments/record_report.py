"""What recorded measurements say of their device: failures, the predicates' exactness, noise, clocks, shared memory.

    python -m experiments.record_report out/records

reads the folder that `experiments/record.py` has filled, and writes `records.md` and `records.json` into `experiments/results`.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from experiments import log
from experiments.command import ended
from experiments.layer_recording import NOISE, REFUSED, STATES
from experiments.record import ENLARGED
from experiments.shared_memory import COUNTED, DRAWN, Counts, counts, table
from search import KnobSpace
from tvm_bridge.arguments import Parser
from tvm_bridge.measure.base import ErrorCategory, Measurement
from tvm_bridge.records import Record, TaskKey, read_records
from tvm_bridge.target import Target
from tvm_bridge.task import task_of
from tvm_bridge.workload import from_args

RESULTS = Path(__file__).parent / "results"

REFUSALS = (
    "too much shared data",
    "CUDA_ERROR_INVALID_VALUE",
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
    "cuModuleLoadData",
    "Failed to set the allowed dynamic shared memory size",
)
"""What compiler and driver say of a kernel that cannot be launched; other errors arise while it runs."""

EXACTNESS = ("configurations", "device_refuses", "against_predicate", "refused_by_both", "works_against_predicate")
"""Of a log's summary, what is added up to judge its predicates."""

CLOCKS = ("sm_mhz", "memory_mhz", "celsius", "watts")
"""Of a GPU's states, what changes."""


def write(folder: Path, results: Path) -> None:
    """Write `records.{md,json}` into `results` from the logs in `folder`.

    **Raises:** `FileNotFoundError` if nothing was recorded there.
    """
    logs = {path.name.removesuffix(".jsonl.gz"): read_records(path) for path in sorted(folder.glob("*.jsonl.gz"))}
    logs = {name: records for name, records in logs.items() if records}
    if not logs:
        raise FileNotFoundError(f"{folder} holds no records yet; first run `python -m experiments.record --out {folder}`.")
    devices = {record.measurement.device for records in logs.values() for record in records}
    noise = {name: _noise(records, _beside(folder, NOISE, name)) for name, records in logs.items()}
    spaces = {target: found for target in _gpus(logs.values()) if (found := _counted(logs, target))}
    stored: dict[str, Any] = {
        "devices": sorted(devices),
        "logs": {name: _summary(name, records, _beside(folder, REFUSED, name)) for name, records in logs.items()},
        "noise": noise,
        "states": _states(log.read(folder / STATES)),
        "shared_memory": {
            str(target): {name: [asdict(each) for each in every] for name, every in found.items()}
            for target, found in spaces.items()
        },
    }
    results.mkdir(parents=True, exist_ok=True)
    (results / "records.json").write_text(json.dumps(stored, indent=1) + "\n")
    sections = [
        f"# Records of {', '.join(stored['devices'])}",
        _recorded(stored["logs"]),
        _refused(stored["logs"]),
        _noisy(noise),
        _clocks(stored["states"]),
        *(_shared(found, target) for target, found in spaces.items()),
    ]
    (results / "records.md").write_text("\n\n".join(filter(None, sections)) + "\n")


def refused(measurement: Measurement) -> bool:
    """Whether a kernel could not be launched at all: the template's predicate should have refused its configuration."""
    return measurement.error is ErrorCategory.INSTANTIATION or any(words in measurement.message for words in REFUSALS)


def _beside(folder: Path, kind: str, name: str) -> list[Record]:
    """The records beside those of a log, none if there is no such file."""
    path = folder / kind / f"{name}.jsonl.gz"
    return read_records(path) if path.exists() else []


def _summary(name: str, records: Sequence[Record], against: Sequence[Record]) -> dict:
    """A log in numbers: layers, configurations, failures, and where predicate and device do not agree.

    `against` are measurements of what the predicate refuses.
    """
    tried = [record for record in records if record.config is not None]
    wrong = [record for record in tried if refused(record.measurement)]
    return {
        "layers": len({record.key for record in records}),
        "configurations": len(tried),
        "failures": Counter(record.measurement.error.name for record in tried if not record.measurement.ok),
        "defaults_failed": sum(record.config is None and not record.measurement.ok for record in records),
        "predicate_refuses": statistics.fmean(_share_refused(space) for space in _spaces(name, records).values()),
        "device_refuses": len(wrong),
        "against_predicate": len(against),
        "refused_by_both": sum(refused(record.measurement) for record in against),
        "works_against_predicate": sum(record.measurement.ok for record in against),
        "words": Counter(record.measurement.message for record in wrong).most_common(5),
    }


def _spaces(name: str, records: Iterable[Record]) -> dict[TaskKey, KnobSpace]:
    """The space of each layer of a log."""
    return {
        key: task_of(from_args(key.operator, json.loads(key.args)), key.target, enlarged=name.endswith(ENLARGED)).space
        for key in dict.fromkeys(record.key for record in records)
    }


def _share_refused(space: KnobSpace) -> float:
    """The share of random configurations of the whole product that the predicate refuses, estimated by `DRAWN` of them."""
    rows = np.random.default_rng(0).integers(space.shape, size=(DRAWN, len(space.knobs)))
    return 1 - float(np.asarray(space.valid(rows)).mean())


def _noise(records: Iterable[Record], again: Sequence[Record]) -> list[dict]:
    """Of each layer: the times of the configuration that was measured again and again, the first measurement's before them."""
    times: dict[tuple[TaskKey, int], list[float]] = defaultdict(list)
    chosen = {(record.key, record.index) for record in again}
    for record in [*records, *again]:
        if (record.key, record.index) in chosen and record.measurement.ok:
            times[record.key, record.index].append(record.measurement.cost)
    return [
        {
            "layer": f"{key.operator} {key.args}",
            "seconds": seconds,
            "deviation": statistics.stdev(seconds) / statistics.fmean(seconds),
            "drift": seconds[-1] / seconds[0] - 1,
        }
        for (key, _), seconds in times.items()
        if len(seconds) > 1
    ]


def _states(lines: Iterable[Mapping]) -> dict:
    """What the driver said: who the device is, and least, median and most of what changes, at each kind of moment."""
    known = [line for line in lines if "unknown" not in line]
    told: dict = {name: sorted({line[name] for line in known if line[name]}) for name in ("name", "driver", "cuda")}
    for moment, group in groupby(sorted(known, key=lambda line: line["moment"]), lambda line: line["moment"]):
        states = list(group)
        told[moment] = {"performance_states": sorted({line["performance_state"] or "" for line in states})}
        for field in CLOCKS:
            if values := [line[field] for line in states if line[field] is not None]:
                told[moment][field] = [min(values), statistics.median(values), max(values)]
    return told


def _gpus(logs: Iterable[Sequence[Record]]) -> list[Target]:
    """The CUDA targets of all logs."""
    targets = dict.fromkeys(record.key.target for records in logs for record in records)
    return [target for target in targets if target.kind == "cuda"]


def _counted(logs: Mapping[str, Sequence[Record]], target: Target) -> dict[str, list[Counts]]:
    """What shared memory does for the spaces of each log's layers on a target, for those of AutoTVM's knobs."""
    keys = {
        name: dict.fromkeys(record.key for record in records if record.key.target == target)
        for name, records in logs.items()
        if not name.endswith(ENLARGED)
    }
    return {
        name: [counts(from_args(key.operator, json.loads(key.args)), target) for key in some]
        for name, some in keys.items()
        if some
    }


def _recorded(logs: Mapping[str, Mapping]) -> str:
    rows = [
        "Random configurations of each layer, results checked by the recorder. The predicate's share is of random "
        f"configurations of the whole product, {DRAWN} of each layer.",
        "",
        "| log | layers | configurations | failed | why | refused by the predicate |",
        "|---" * 6 + "|",
    ]
    for name, each in logs.items():
        failed = sum(each["failures"].values())
        why = ", ".join(f"{count} {category}" for category, count in sorted(each["failures"].items()))
        share = failed / max(1, each["configurations"])
        rows.append(
            f"| {name} | {each['layers']} | {each['configurations']} | {share:.1%} | {why} | {each['predicate_refuses']:.1%} |"
        )
    return "\n".join(rows)


def _refused(logs: Mapping[str, Mapping]) -> str:
    """Whether the predicates are exact: what they admit the device must not refuse, and it must refuse what they refuse."""
    total = {name: sum(each[name] for each in logs.values()) for name in EXACTNESS}
    words = Counter({said: number for each in logs.values() for said, number in each["words"]})
    lines = [
        f"Of {total['configurations']} configurations that the predicates admit the device refused {total['device_refuses']}"
        f"{':' if words else '.'}",
        *([""] if words else []),
        *(f"- {number} times: {said}" for said, number in words.most_common(5)),
    ]
    if total["against_predicate"]:
        lines += [
            "",
            f"Of {total['against_predicate']} configurations that the predicates refuse, built and run all the same, the "
            f"device refused {total['refused_by_both']}; {total['works_against_predicate']} worked.",
        ]
    return "\n".join(lines)


def _noisy(noise: Mapping[str, Sequence[Mapping]]) -> str:
    layers = [each for group in noise.values() for each in group]
    if not layers:
        return ""
    deviations = sorted(each["deviation"] for each in layers)
    drifts = sorted(abs(each["drift"]) for each in layers)
    longest = max(len(each["seconds"]) for each in layers)
    rows = [
        "## Noise",
        "",
        f"One configuration of each of {len(layers)} layers was measured again and again. Relative standard deviation: "
        f"{statistics.median(deviations):.1%} on the median layer, {deviations[-1]:.1%} at most. From the first to the last "
        f"time it changed by {statistics.median(drifts):.1%}, at most by {drifts[-1]:.1%}.",
        "",
        "| measured again | layers | time by the first (geometric mean) |",
        "|---|---|---|",
    ]
    for turn in range(1, longest):
        ratios = [each["seconds"][turn] / each["seconds"][0] for each in layers if len(each["seconds"]) > turn]
        rows.append(f"| {turn} | {len(ratios)} | {statistics.geometric_mean(ratios):.3f} |")
    return "\n".join(rows)


def _clocks(states: Mapping) -> str:
    moments = [moment for moment in ("start", "again", "end") if moment in states]
    if not moments:
        return ""
    rows = [
        "## Clocks seen",
        "",
        f"{', '.join(states['name'])}, driver {', '.join(states['driver'])}, CUDA {', '.join(states['cuda'])}. "
        "Nothing was set. Least, median and most, read at the start, right after measurements, and at the end.",
        "",
        "| | states | SM clock, MHz | memory clock, MHz | temperature, °C | power, W |",
        "|---|---|---|---|---|---|",
    ]
    for moment in moments:
        told = states[moment]
        figures = [" / ".join(f"{value:.0f}" for value in told[field]) if field in told else "" for field in CLOCKS]
        rows.append(f"| {moment} | {', '.join(told['performance_states'])} | {' | '.join(figures)} |")
    return "\n".join(rows)


def _shared(found: Mapping[str, Sequence[Counts]], target: Target) -> str:
    return "\n".join(
        [
            f"## What more shared memory would add on {target}",
            "",
            f"Spaces of more than {COUNTED} configurations are estimated by {DRAWN} of them.",
            "",
            table(found.items(), target),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report; returns the exit code."""
    parser = Parser(prog="record_report", description="What recorded measurements say of their device.")
    parser.add_argument("folder", type=Path, help="the folder of the recorder's logs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write records.md and records.json into")
    arguments = parser.parse_args(argv)

    def work() -> int:
        write(arguments.folder, arguments.results)
        return 0

    return ended("record_report", work, "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
