"""Tables and picture of the comparison of CPU kernels, from the logs that its other stages have written."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from experiments import log
from experiments.kernel_comparison import OURS
from experiments.random_kernels import SLOW, shares
from experiments.roofline import Peaks
from experiments.torch_convolution import KERNELS

RESULTS = Path(__file__).parent / "results"
OTHERS = {
    "metaschedule": "MetaSchedule",
    "torch": "PyTorch",
    "torch_channels_last": "PyTorch channels last",
    "onednn": "oneDNN",
}
GROUPS = {
    "dense": ("dense",),
    "pointwise": ("pointwise",),
    "dense and pointwise": ("dense", "pointwise"),
    "depthwise": ("depthwise",),
    "all": ("dense", "pointwise", "depthwise"),
}
FALLS_SHORT = 0.85
"""A layer below this share of oneDNN's throughput is named."""


@dataclass(frozen=True)
class Row:
    """A layer: everybody's GFLOPS by median, counting the direct algorithm's operations.

    Of oneDNN it is the faster of two kernels, that for the layout of its own choice and that for channels last; `kernel` is its
    name. Of ours it is the faster one, too: that for NCHW or that for channels last, by `algorithm`. `tuning` has the
    measurements and the seconds of both tunings, `torch` PyTorch's version. `limit` is the roofline, by `bound`; None where the
    machine's peaks are not known.
    """

    layer: str
    group: str
    algorithm: str
    gflops: dict[str, float]
    kernel: str
    operations: int
    bytes: int
    tuning: dict[str, list[float | None]]
    torch: str | None
    limit: float | None = None
    bound: str = ""

    @classmethod
    def of(cls, line: Mapping) -> Row:
        """The row of a line of the comparison's log."""
        gflops = {
            name: line["operations"] / statistics.median(turns) / 1e9
            for name, turns in line["times"].items()
            if turns and None not in turns
        }
        ours, algorithm = _fastest(gflops, OURS, {name: kernel["algorithm"] for name, kernel in line["kernels"].items()})
        onednn, kernel = _fastest(gflops, KERNELS, line["implementations"])
        others = {name: speed for name, speed in gflops.items() if name not in (*OURS, *KERNELS)}
        return cls(
            line["layer"],
            line["group"],
            algorithm,
            {"ours": ours} | others | ({"onednn": onednn} if onednn else {}),
            kernel,
            line["operations"],
            line["bytes"],
            line["tuning"],
            line["torch"],
        )

    def below(self, peaks: Peaks | None) -> Row:
        """The row with the limit that a machine's peaks set."""
        limit, bound = peaks.limit(self.operations, self.bytes) if peaks else (None, "")
        return replace(self, limit=limit, bound=bound)

    @property
    def network(self) -> str:
        """The first word of the layer's name."""
        return self.layer.partition(" ")[0]

    def ratio(self, other: str) -> float | None:
        """Our throughput as a multiple of another's."""
        return self.gflops["ours"] / self.gflops[other] if other in self.gflops else None

    @property
    def share(self) -> float | None:
        """The share of the limit that ours reaches."""
        return self.gflops["ours"] / self.limit if self.limit else None

    def __str__(self) -> str:
        return f"{self.layer}: " + ", ".join(f"{name} {speed:.0f}" for name, speed in self.gflops.items()) + " GFLOPS"


def write(folder: Path, results: Path) -> None:
    """Write `cpu_kernels.{md,json,png}` into `results` from the logs in `folder`.

    Layers that only an earlier report has stay in it, if the device is the same.

    **Raises:** `FileNotFoundError` if nothing was compared yet.
    """
    compared = [line for line in log.read(folder / "compare.jsonl") if "kernels" in line]  # an earlier version's have none
    lines = list({line["layer"]: line for line in compared}.values())
    if not lines:
        raise FileNotFoundError(f"{folder} holds no comparison yet; run the stages `tune` and `compare` first.")
    measured = log.read(folder / "roofline.jsonl")
    peaks = Peaks.of(measured[-1]) if measured else None
    path, device = results / "cpu_kernels.json", lines[0]["device"]
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get("device") != device:
        known = {"rows": [], "random": [], "peaks": None}
    if peaks is None and known["peaks"]:
        peaks = Peaks.of(known["peaks"])
    by_layer = {row["layer"]: Row(**row) for row in known["rows"]} | {line["layer"]: Row.of(line) for line in lines}
    rows = sorted((row.below(peaks) for row in by_layer.values()), key=lambda row: row.network)
    fresh = shares(log.read(folder / "random.jsonl"), lines)
    random = list(({line["layer"]: line for line in known["random"]} | {line["layer"]: line for line in fresh}).values())
    stored = {
        "device": device,
        "peaks": asdict(peaks) if peaks else None,
        "means": {name: means(rows, name) for name in GROUPS},
        "rows": [asdict(row) for row in rows],
        "random": random,
    }
    results.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stored, indent=1) + "\n")
    sections = [_heading(rows, device, peaks), _summary(rows), *_tables(rows), _tuning(rows), _random(random)]
    (results / "cpu_kernels.md").write_text("\n\n".join(filter(None, sections)) + "\n")
    _draw(rows, device, results / "cpu_kernels.png")


def _fastest(gflops: Mapping[str, float], names: Sequence[str], called: Mapping[str, str]) -> tuple[float, str]:
    """The throughput of the fastest kernel of some, and what it is called, with its layout; 0 and nothing if there is none."""
    name = max(gflops.keys() & names, key=lambda name: gflops[name], default=None)
    if name is None:
        return 0.0, ""
    return gflops[name], called.get(name, "") + (" (channels last)" if name.endswith("channels_last") else "")


def means(rows: Iterable[Row], name: str) -> dict[str, float]:
    """Geometric means over a group's layers: ours as a multiple of each other's, and as a share of the limit."""
    return {column: statistics.geometric_mean(values) for column, values in _present(rows, name).items() if values}


def _present(rows: Iterable[Row], name: str) -> dict[str, list[float]]:
    """Of a group's layers what the means are over, without those that lack it."""
    group = [row for row in rows if row.group in GROUPS[name]]
    columns = {other: [row.ratio(other) for row in group] for other in OTHERS} | {"share": [row.share for row in group]}
    return {column: [value for value in values if value is not None] for column, values in columns.items()}


def _heading(rows: Sequence[Row], device: str, peaks: Peaks | None) -> str:
    versions = {row.torch for row in rows if row.torch}
    text = [
        "# Kernels on the CPU",
        "",
        f"GFLOPS of the direct algorithm on {device}, batch 1, float32; medians of turns in one run. Ours are the best of "
        f"{_trials(rows, 'ours')} measurements, those in channels last included where there are any, MetaSchedule's of "
        f"{_trials(rows, 'metaschedule')} in NCHW, failed ones counted, weights packed ahead; untuned is TVM's default "
        "schedule, timed when tuning began. "
        f"PyTorch {', '.join(sorted(versions)) or '(none)'} is a whole eager call; oneDNN is its convolution alone, without "
        "layout changes, in the faster of two layouts (its own choice, channels last). Around each run of that, PyTorch "
        "reorders data and weights where the layout asks for it, which takes cache that ours has to itself.",
    ]
    if peaks:
        levels = ", ".join(
            f"{level.name} {level.bandwidth:.0f} GB/s" + (f" up to {level.capacity / 2**20:.0f} MiB" if level.capacity else "")
            for level in peaks.levels
        )
        text += [
            "",
            f"The limit is the least of this machine's peak of fused multiply-adds, {peaks.gflops:.0f} GFLOPS (threads: "
            f"{peaks.threads}), and of what reading data, weights and result once takes from the smallest level that holds "
            f"them all, as between runs it does: {levels}. Winograd's algorithm does less than is counted and can pass it.",
        ]
    return "\n".join(text)


def _trials(rows: Iterable[Row], name: str) -> str:
    """From the fewest to the most measurements of a layer, of those that had any."""
    trials = sorted(count for row in rows if (count := row.tuning[name][0]))
    return " to ".join(dict.fromkeys(map(str, trials[:1] + trials[-1:]))) or "none"


def _summary(rows: Sequence[Row]) -> str:
    table = [
        f"| ours as a multiple of | layers | {' | '.join(OTHERS.values())} | share of the limit |",
        "|---" * (len(OTHERS) + 3) + "|",
    ]
    for name, groups in GROUPS.items():
        present, count = _present(rows, name), sum(row.group in groups for row in rows)
        if count:
            cells = " | ".join(_mean(present[column], count) for column in (*OTHERS, "share"))
            table.append(f"| {name} | {count} | {cells} |")
    short = [row for row in rows if (ratio := row.ratio("onednn")) is not None and ratio < FALLS_SHORT]
    named = ", ".join(f"{row.layer} ({row.ratio('onednn'):.2f})" for row in short)
    judged = any("onednn" in row.gflops for row in rows)
    heading = "Geometric means; in brackets over how many layers, where some have no such figure."
    return "\n".join([heading, "", *table, *(["", f"Below {FALLS_SHORT} of oneDNN: {named or 'none'}."] if judged else [])])


def _mean(values: Sequence[float], count: int) -> str:
    """A geometric mean, and of how many layers where it is not of all `count`."""
    if not values:
        return "-"
    return f"{statistics.geometric_mean(values):.2f}" + (f" ({len(values)})" if len(values) < count else "")


def _tables(rows: Sequence[Row]) -> list[str]:
    """A table for each network."""
    sections = []
    for network, group in groupby(rows, key=lambda row: row.network):
        ratios = " | ".join(f"/ {name}" for name in OTHERS.values())
        table = [
            f"## {network}",
            "",
            f"| layer | untuned | ours | {' | '.join(OTHERS.values())} | {ratios} | limit | share | bound by | algorithm "
            "| oneDNN's kernel |",
            "|---" * (2 * len(OTHERS) + 8) + "|",
        ]
        for row in group:
            cells = [
                row.layer.partition(" ")[2],
                _number(row.gflops.get("untuned"), 1),
                *(_number(row.gflops.get(name), 0) for name in ("ours", *OTHERS)),
                *(_ratio(row, name) for name in OTHERS),
                *(_number(row.limit, 0), _number(row.share, 2), row.bound, row.algorithm, row.kernel),
            ]
            table.append(f"| {' | '.join(cells)} |")
        sections.append("\n".join(table))
    return sections


def _ratio(row: Row, other: str) -> str:
    """The ratio to another, in bold where it falls short of oneDNN."""
    ratio = row.ratio(other)
    bold = "**" if other == "onednn" and ratio is not None and ratio < FALLS_SHORT else ""
    return f"{bold}{_number(ratio, 2)}{bold}"


def _tuning(rows: Iterable[Row]) -> str:
    """What tuning cost."""
    medians = {}
    for name in ("ours", "metaschedule"):
        seconds = [spent for row in rows if (spent := row.tuning[name][1])]
        if seconds:
            medians[name] = f"{statistics.median(seconds):.0f} s for {name if name == 'ours' else 'MetaSchedule'}"
    return f"Tuning a layer took {' and '.join(medians.values())}, by median." if medians else ""


def _random(found: Sequence[Mapping]) -> str:
    if not found:
        return ""
    table = [
        "## Random valid configurations",
        "",
        f"How many take at most {SLOW:g} times as long as the best, how many fail, and how long they compile.",
        "",
        f"| layer | configurations | within {SLOW:g}x | failed | compile seconds, 99 % |",
        "|---|---|---|---|---|",
    ]
    for line in found:
        cells = (line["layer"], line["configurations"], f"{line['near']:.0%}", line["failed"], f"{line['compile']:.2f}")
        table.append(f"| {' | '.join(map(str, cells))} |")
    near, slowest = min(line["near"] for line in found), max(line["compile"] for line in found)
    table.append(f"| worst | {sum(line['configurations'] for line in found)} | {near:.0%} | | {slowest:.2f} |")
    return "\n".join(table)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _draw(rows: Sequence[Row], device: str, path: Path) -> None:
    """A panel for each network: everybody as a multiple of oneDNN, the limit as a line."""
    try:
        from matplotlib import pyplot
    except ImportError:
        print("cpu_kernels: no picture; install the extra 'plot' for it", file=sys.stderr)
        return
    shown = [row for row in rows if "onednn" in row.gflops]
    networks = [(network, list(group)) for network, group in groupby(shown, key=lambda row: row.network)]
    if not networks:
        print("cpu_kernels: no picture, which shows multiples of oneDNN; compare with --torch-python", file=sys.stderr)
        return
    figure, panels = pyplot.subplots(
        len(networks), figsize=(13, 3.4 * len(networks)), squeeze=False, sharey=True, layout="constrained"
    )
    markers = {"ours": ("o", "tab:red", 9), "metaschedule": ("s", "tab:blue", 5), "torch": ("^", "tab:orange", 6)}
    markers["torch_channels_last"] = ("v", "tab:green", 6)
    names = {"ours": "ours", **OTHERS}
    for panel, (network, group) in zip(panels.flat, networks, strict=True):
        places = range(len(group))
        panel.axhline(1, color="black", linewidth=1, label="oneDNN's kernel")
        for name, (marker, colour, size) in markers.items():
            heights = [row.gflops[name] / row.gflops["onednn"] if name in row.gflops else np.nan for row in group]
            panel.plot(places, heights, marker, color=colour, markersize=size, label=names[name], alpha=0.85)
        limits = np.array([row.limit / row.gflops["onednn"] if row.limit else np.nan for row in group])
        panel.hlines(limits, np.subtract(places, 0.4), np.add(places, 0.4), color="grey", linewidth=2, label="roofline")
        panel.set_yscale("log", base=2)
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}x")
        panel.set_xticks(places, [row.layer.partition(" ")[2] for row in group], rotation=30, ha="right", fontsize=8)
        panel.set_ylabel("throughput / oneDNN's")
        panel.set_title(network, fontsize=10, loc="left")
        panel.grid(axis="y", alpha=0.3)
    panels[0, 0].set_title(device, fontsize=9, loc="right")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
