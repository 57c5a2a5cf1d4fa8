"""The report of `network_latency`: a table and a picture of latencies, of tuning time and of memory."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from experiments import log, metaschedule
from experiments.command import pyplot
from tvm_bridge.network.benchmark import Latency, hypervolume

RESULTS = Path(__file__).parent / "results"
TUNINGS = {"gausstune": ("ours",), "gausstune in NHWC": ("nhwc",), "gausstune in chosen layouts": ("ours", "nhwc")}
"""The folders of the tunings that a form of ours rests on."""


@dataclass(frozen=True)
class Row:
    """A network in one form.

    - `what`: "untuned", "gausstune, 20", "gausstune in NHWC, 20", "gausstune in chosen layouts, 20", "metaschedule, 20",
      "pytorch" for eager calls in float32, or another `TorchForm`'s name.
    - `mean`, `p50`, `p90`, `p99`: of its latencies, in seconds; `variance` in square seconds.
    - `runs`: how many latencies.
    - `search`: seconds of tuning; None for what was not tuned.
    - `measured`: measurements of that tuning.
    - `peak_bytes`: the tuning's largest memory; None if unknown.
    """

    what: str
    mean: float
    variance: float
    p50: float
    p90: float
    p99: float
    runs: int
    search: float | None
    measured: int | None
    peak_bytes: int | None


@dataclass(frozen=True)
class Turns:
    """The forms of a network that took turns: only these are compared.

    - `device`: what ran them.
    - `timestamp`: when they ended, in seconds since 1970.
    - `turn`: runs of a turn; the first finds the caches as another network left them.
    - `target`: what the networks were compiled for; empty where that was not written down.
    """

    network: str
    device: str
    timestamp: float
    turn: int
    rows: tuple[Row, ...]
    target: str = ""

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Self:
        """The turns that `asdict` has made a dictionary of."""
        return cls(**stored | {"rows": tuple(Row(**row) for row in stored["rows"])})

    @property
    def when(self) -> str:
        """When they ended, by the minute, in coordinated universal time."""
        return f"{np.datetime64(round(self.timestamp), 's').item():%Y-%m-%d %H:%M}"

    def __getitem__(self, what: str) -> Row | None:
        return next((row for row in self.rows if row.what == what), None)

    def replaces(self, other: Turns) -> bool:
        """Whether these tell of all that the others do, later."""
        same = (self.network, self.device) == (other.network, other.device) and self.timestamp >= other.timestamp
        return same and {row.what for row in other.rows} <= {row.what for row in self.rows}


def write(folder: Path, networks: Sequence[str], results: Path, kind: str = "llvm") -> None:
    """Write the report of what a folder holds and of what was written before, unless that is replaced.

    That is `network_latency.{md,json,png}` for a CPU, `network_latency_cuda.{md,json,png}` for a GPU: the `kind` of target.

    **Raises:** `ValueError` if the folder holds no latencies.
    """
    report = results / ("network_latency" if kind == "llvm" else f"network_latency_{kind}")
    fresh = [turns for name in networks if (turns := read(folder / name, name))]
    if not fresh:
        raise ValueError(f"report: {folder} has no latencies; do the stage 'latency' first.")
    path = report.with_suffix(".json")
    known = [Turns.of(stored) for stored in json.loads(path.read_text())] if path.exists() else []
    told = {(turns.network, turns.device, turns.timestamp): turns for turns in [*known, *fresh]}.values()
    kept = [turns for turns in told if not any(each.replaces(turns) for each in told if each is not turns)]
    every = sorted(kept, key=lambda turns: (turns.network, turns.timestamp))
    results.mkdir(parents=True, exist_ok=True)
    report.with_suffix(".md").write_text(table(every, kind))
    path.write_text(json.dumps([asdict(turns) for turns in every], indent=1) + "\n")
    _draw(every, report.with_suffix(".png"))


def last_turns(folder: Path) -> list[dict[str, Any]]:
    """The last turns in a network's log of latencies: a line for each form, with its runs of all rounds.

    A log has a line for each form and round; one that does not tell when its turns `began` has all rounds of its form, and one
    without `turn` does not count.
    """
    lines = [line for line in log.read(folder / "latency.jsonl") if "turn" in line]
    forms: dict[str, dict[str, Any]] = {}
    for line in lines:
        if _began(line) == _began(lines[-1]):
            before = forms.get(line["what"], {}).get("seconds", [])
            forms[line["what"]] = line | {"seconds": before + line["seconds"], "timestamp": lines[-1]["timestamp"]}
    return list(forms.values())


def _began(line: dict[str, Any]) -> float:
    """What the lines of the same turns have in common."""
    return line.get("began", line["timestamp"])


def read(folder: Path, network: str) -> Turns | None:
    """The last turns of a network; None before there were any."""
    last = last_turns(folder)
    if not last:
        return None
    device, timestamp, turn = (last[0][name] for name in ("device", "timestamp", "turn"))
    rows = tuple(_row(line, folder) for line in last)
    return Turns(network, device, timestamp, turn, rows, last[0].get("target", ""))


def _row(line: dict[str, Any], folder: Path) -> Row:
    what, latency = line["what"], Latency(np.array(line["seconds"]))
    p50, p90, p99 = (latency.percentile(percent) for percent in (50, 90, 99))
    search, measured, peak = _search(folder, what, line["tasks"])
    return Row(what, latency.mean, latency.variance, p50, p90, p99, len(latency.seconds), search, measured, peak)


def _search(folder: Path, what: str, tasks: int) -> tuple[float | None, int | None, int | None]:
    """Seconds, measurements and peak memory of the tuning behind a form; budgets are multiples of how many `tasks` it had."""
    method, _, each = what.partition(", ")
    if method == "metaschedule":
        searched = folder / "metaschedule"
        measured, seconds = metaschedule.spent(searched, int(each) * tasks)
        return seconds, measured, _peak(searched / "memory.jsonl")
    if method in TUNINGS:
        tunings = [folder / name for name in TUNINGS[method]]
        spent = [_first_rounds(tuning, int(each) * tasks) for tuning in tunings]
        peaks = [peak for tuning in tunings if (peak := _peak(tuning / "calls.jsonl"))]
        return sum(seconds for seconds, _ in spent), sum(measured for _, measured in spent), max(peaks, default=None)
    return None, None, None


def _first_rounds(folder: Path, budget: int) -> tuple[float, int]:
    """Seconds and measurements of a tuning up to a budget: of its finished rounds, and of all that came before the first."""
    rounds = log.read(folder / "rounds.jsonl")
    seconds = [line["seconds_searching"] + line["seconds_measuring"] for line in rounds]
    before = max(0.0, sum(line["seconds"] for line in log.read(folder / "calls.jsonl")) - sum(seconds))
    measured = list(itertools.accumulate(line["trials"] for line in rounds))
    last = next((place for place, count in enumerate(measured) if count >= budget), len(measured) - 1)
    return before + sum(seconds[: last + 1]), measured[last] if measured else 0


def _peak(path: Path) -> int | None:
    return max((line["peak_bytes"] for line in log.read(path)), default=None)


def table(every: Iterable[Turns], kind: str = "llvm") -> str:
    """The tables in Markdown."""
    lines = [
        f"# Whole networks on {'this CPU' if kind == 'llvm' else 'a GPU'}",
        "",
        "Batch 1, 224x224, float32, random weights; latencies of a whole run. The forms of a table took turns. The number",
        "behind a tuner's name is how many measurements it had for each of our tasks, in either layout where they were chosen.",
        "HV is the reduction of latency times the reduction of search time beside MetaSchedule with as many measurements, in",
        'per cent; "-" where one of them is no reduction.',
    ]
    digits = 2
    if kind != "llvm":
        digits = 3  # milliseconds are few
        lines += [
            "",
            "A run takes data that the GPU has, and ends when the GPU has done it. PyTorch computes in float32, in NCHW and in",
            'eager calls unless its name says otherwise; "x PyTorch" is beside that form.',
        ]
    for turns in every:
        lines += [
            "",
            f"## {turns.network}, {turns.device}, turns of {turns.turn}, {turns.when} UTC",
            "",
            *([f"Compiled for `{turns.target}`.", ""] if turns.target else []),
            "| form | mean ms | variance ms^2 | p50 | p99 | runs | x PyTorch | search s | measured | peak GB | HV |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        torch = turns["pytorch"]
        for row in turns.rows:
            cells: list[Any] = [row.what, f"{row.mean * 1e3:.{digits}f}", f"{row.variance * 1e6:.3g}"]
            cells += [f"{row.p50 * 1e3:.{digits}f}", f"{row.p99 * 1e3:.{digits}f}", row.runs]
            cells.append(f"{torch.p50 / row.p50:.2f}" if torch else "")
            cells += ["" if row.search is None else f"{row.search:.0f}", "" if row.measured is None else row.measured]
            cells += ["" if row.peak_bytes is None else f"{row.peak_bytes / 1e9:.2f}", _hypervolume(row, turns)]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def _hypervolume(row: Row, turns: Turns) -> str:
    method, _, each = row.what.partition(", ")
    other = turns[f"metaschedule, {each}"]
    if method != "gausstune" or other is None or row.search is None or other.search is None:
        return ""
    if row.mean > other.mean or row.search > other.search:
        return "-"
    return f"{hypervolume(row.mean, row.search, reference_latency=other.mean, reference_search_seconds=other.search):.1f}"


def _draw(every: Sequence[Turns], path: Path) -> None:
    """A panel for each turns: medians as bars, up to the 99th percentile as lines; the untuned one is told in the title."""
    if (plot := pyplot("network_latency")) is None:
        return
    shown = [(turns, [row for row in turns.rows if row.what != "untuned"]) for turns in every]
    shown = [(turns, rows) for turns, rows in shown if any(row.search is not None for row in rows)]
    if not shown:
        print("network_latency: no picture, which shows tuned networks", file=sys.stderr)
        return
    figure, panels = plot.subplots(1, len(shown), figsize=(4.5 * len(shown), 3.6), squeeze=False, layout="constrained")
    for panel, (turns, rows) in zip(panels.flat, shown, strict=True):
        places = range(len(rows))
        medians, tails = (np.array([getattr(row, name) for row in rows]) * 1e3 for name in ("p50", "p99"))
        ours = ["tab:red" if row.what.startswith("gausstune") else "tab:gray" for row in rows]
        panel.barh(places, medians, color=ours, alpha=0.8, height=0.6)
        panel.hlines(places, medians, tails, color="black", linewidth=1)
        panel.set_yticks(places, [row.what for row in rows])
        panel.invert_yaxis()
        panel.set_xlim(left=0)
        panel.set_xlabel("ms, median and up to 99 % of the runs")
        panel.grid(axis="x", alpha=0.3)
        untuned = turns["untuned"]
        told = f"; untuned {untuned.p50 * 1e3:.0f} ms" if untuned else ""
        panel.set_title(f"{turns.network}{told}\n{turns.when}, turns of {turns.turn}", fontsize=9, loc="left")
    figure.savefig(path, dpi=110)
    plot.close(figure)
