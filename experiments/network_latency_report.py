"""The report of `network_latency`: a table and a picture of latencies, of tuning time and of memory."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import log, metaschedule
from tvm_bridge.network.benchmark import Latency, hypervolume

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """A network in one form.

    - `network`, `what`: "resnet-18" and "untuned", "gausstune, 20", "metaschedule, 20" or "pytorch".
    - `latency`: of its runs.
    - `search`: seconds of tuning; None for what was not tuned.
    - `measured`: measurements of that tuning.
    - `peak`: the tuning's largest memory in bytes; None if unknown.
    """

    network: str
    what: str
    latency: Latency
    search: float | None
    measured: int | None
    peak: int | None


def write(folder: Path, networks: Sequence[str], results: Path) -> None:
    """Write `network_latency.{md,json,png}` of what a folder holds.

    **Raises:** `ValueError` if it holds no latencies.
    """
    rows = [row for name in networks for row in read(folder / name, name)]
    if not rows:
        raise ValueError(f"report: {folder} has no latencies; do the stage 'latency' first.")
    results.mkdir(parents=True, exist_ok=True)
    (results / "network_latency.md").write_text(table(rows))
    summary = [
        {"network": row.network, "what": row.what, "mean": row.latency.mean, "variance": row.latency.variance}
        | {f"p{percent}": row.latency.percentile(percent) for percent in (50, 90, 99)}
        | {"runs": len(row.latency.seconds), "search": row.search, "measured": row.measured, "peak_bytes": row.peak}
        for row in rows
    ]
    (results / "network_latency.json").write_text(json.dumps(summary, indent=1) + "\n")
    _draw(rows, results / "network_latency.png")


def read(folder: Path, network: str) -> list[Row]:
    """The last latencies of each form of a network."""
    last = {line["what"]: np.array(line["seconds"]) for line in log.read(folder / "latency.jsonl")}
    return [Row(network, what, Latency(seconds), *_search(folder, what)) for what, seconds in last.items()]


def _search(folder: Path, what: str) -> tuple[float | None, int | None, int | None]:
    """Seconds, measurements and peak memory of the tuning behind a form."""
    method, _, each = what.partition(", ")
    if method == "metaschedule":
        searched = folder / "metaschedule"
        measured, seconds = metaschedule.spent(searched, int(each) * _tasks(folder))
        return seconds, measured, _peak(searched / "memory.jsonl")
    if method == "gausstune":
        return *_first_rounds(folder / "ours", int(each)), _peak(folder / "ours" / "calls.jsonl")
    if method == "gausstune in NHWC":
        return *_first_rounds(folder / "nhwc", int(each)), _peak(folder / "nhwc" / "calls.jsonl")
    return None, None, None


def _first_rounds(folder: Path, each: int) -> tuple[float, int]:
    """Seconds and measurements of a tuning up to a budget: of its rounds, and of all that came before the first."""
    budget = each * _tasks(folder.parent)
    rounds = log.read(folder / "rounds.jsonl")
    seconds = [line["seconds_searching"] + line["seconds_measuring"] for line in rounds]
    before = sum(line["seconds"] for line in log.read(folder / "calls.jsonl")) - sum(seconds)
    measured = list(itertools.accumulate(line["trials"] for line in rounds))
    last = next((place for place, count in enumerate(measured) if count >= budget), len(measured) - 1)
    return before + sum(seconds[: last + 1]), measured[last]


def _tasks(folder: Path) -> int:
    """How many tasks our tuning of a network had: budgets are multiples of it."""
    return len(json.loads((folder / "ours" / "network.json").read_text())["tasks"])


def _peak(path: Path) -> int | None:
    return max((line["peak_bytes"] for line in log.read(path)), default=None)


def table(rows: Sequence[Row]) -> str:
    """The tables in Markdown."""
    lines = [
        "# Whole networks on this CPU",
        "",
        "Batch 1, 224x224, float32, random weights; latencies of a whole run, in turns. The number behind a tuner's name is",
        "how many measurements it had for each of our tasks. HV is the reduction of latency times the reduction of search time",
        'beside MetaSchedule with as many measurements, in per cent; "-" where one of them is no reduction.',
        "",
        "| network | form | mean ms | variance ms^2 | p50 | p99 | runs | x PyTorch | search s | measured | peak GB | HV |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    by_form = {(row.network, row.what): row for row in rows}
    for row in rows:
        torch, latency = by_form.get((row.network, "pytorch")), row.latency
        cells: list[Any] = [row.network, row.what, f"{latency.mean * 1e3:.2f}", f"{latency.variance * 1e6:.3g}"]
        cells += [f"{latency.percentile(percent) * 1e3:.2f}" for percent in (50, 99)]
        cells += [len(latency.seconds), f"{torch.latency.percentile(50) / latency.percentile(50):.2f}" if torch else ""]
        cells += ["" if row.search is None else f"{row.search:.0f}", "" if row.measured is None else row.measured]
        cells += ["" if row.peak is None else f"{row.peak / 1e9:.2f}", _hypervolume(row, by_form)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def _hypervolume(row: Row, by_form: dict[tuple[str, str], Row]) -> str:
    method, _, each = row.what.partition(", ")
    other = by_form.get((row.network, f"metaschedule, {each}"))
    if method != "gausstune" or other is None or row.search is None or other.search is None:
        return ""
    if row.latency.mean > other.latency.mean or row.search > other.search:
        return "-"
    reference = {"reference_latency": other.latency.mean, "reference_search_seconds": other.search}
    return f"{hypervolume(row.latency.mean, row.search, **reference):.1f}"


def _draw(rows: Sequence[Row], path: Path) -> None:
    """A panel for each network: the spread of each form's latencies; the untuned one is told in the title."""
    try:
        from matplotlib import pyplot
    except ImportError:
        print("network_latency: no picture; install the extra 'plot' for it", file=sys.stderr)
        return
    networks = list(dict.fromkeys(row.network for row in rows))
    figure, panels = pyplot.subplots(1, len(networks), figsize=(4.5 * len(networks), 3.6), squeeze=False, layout="constrained")
    for panel, network in zip(panels.flat, networks, strict=True):
        group = [row for row in rows if row.network == network]
        shown = [row for row in group if row.what != "untuned"]
        panel.boxplot(
            [row.latency.seconds * 1e3 for row in shown], orientation="horizontal", whis=(1, 99), showfliers=False, widths=0.6
        )
        panel.set_yticks(range(1, len(shown) + 1), [row.what for row in shown])
        panel.invert_yaxis()
        panel.set_xlim(left=0)
        panel.set_xlabel("ms, 1 % to 99 % of the runs")
        panel.grid(axis="x", alpha=0.3)
        untuned = [f"untuned {row.latency.percentile(50) * 1e3:.0f} ms" for row in group if row.what == "untuned"]
        panel.set_title("; ".join([network, *untuned]), fontsize=10, loc="left")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
