"""Tables of the comparison of CPU kernels, and its picture, from the logs that its other stages have written."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from experiments import log
from experiments.kernel_cases import CHANNELS_LAST
from experiments.kernel_picture import draw
from experiments.kernel_rows import OTHERS, Row, grouped, means, ratios
from experiments.random_kernels import LONG, SLOW, shares
from experiments.roofline import Peaks
from tvm_bridge.convolution import LAYOUTS

RESULTS = Path(__file__).parent / "results"
FALLS_SHORT = 0.85
"""A layer below this share of oneDNN's throughput is named."""


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
    earlier = {line["layer"]: line for line in known["random"] if "long" in line}  # an earlier version's do not tell
    random = list((earlier | {line["layer"]: line for line in fresh}).values())
    stored = {
        "device": device,
        "peaks": asdict(peaks) if peaks else None,
        "means": {name: means(group) for name, group in grouped(rows).items()},
        "rows": [asdict(row) for row in rows],
        "random": random,
    }
    results.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stored, indent=1) + "\n")
    sections = [_heading(rows, device, peaks), _summary(rows), *_tables(rows), _tuning(rows), _random(random)]
    (results / "cpu_kernels.md").write_text("\n\n".join(filter(None, sections)) + "\n")
    draw(rows, device, results / "cpu_kernels.png")


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
    columns = [*ratios(rows), "least of oneDNN"]
    table = [f"| ours as a multiple of | layers | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for name, group in grouped(rows).items():
        cells = [_mean(values, len(group)) for values in ratios(group).values()]
        table.append(f"| {name} | {len(group)} | {' | '.join(cells)} | {_least(group)} |")
    heading = (
        "Geometric means; in brackets over how many layers, where some have no such figure. PyTorch is its faster layout here."
    )
    return "\n".join([heading, "", *table, *_slower(rows)])


def _least(rows: Sequence[Row]) -> str:
    """The least multiple of oneDNN's throughput, and its layer."""
    judged = _beside_onednn(rows)
    return f"{judged[0][0]:.2f} {judged[0][1].layer}" if judged else "-"


def _beside_onednn(rows: Sequence[Row]) -> list[tuple[float, Row]]:
    """The layers that have such a kernel, with the multiple of its throughput, the least first."""
    judged = [(ratio, row) for row in rows if (ratio := row.ratio("onednn")) is not None]
    return sorted(judged, key=lambda pair: pair[0])


def _slower(rows: Sequence[Row]) -> list[str]:
    """Which layers are slower than oneDNN's kernel, the worst first, and how far from what limits them."""
    judged = _beside_onednn(rows)
    if not judged:
        return []
    slower = [(ratio, row) for ratio, row in judged if ratio < 1]
    short = ", ".join(row.layer for ratio, row in slower if ratio < FALLS_SHORT) or "none"
    told = []
    for ratio, row in slower:
        limit = f"{row.share:.2f} of the limit by {row.bound}, " if row.share else ""
        told.append(f"- {row.layer}: {ratio:.2f} of oneDNN's throughput, {limit}{row.algorithm}")
    return [
        "",
        f"Below {FALLS_SHORT} of oneDNN: {short}. Slower than it at all: {len(slower)} of {len(judged)} layers.",
        "",
        *told,
    ]


def _mean(values: Sequence[float], count: int) -> str:
    """A geometric mean, and of how many layers where it is not of all `count`."""
    if not values:
        return "-"
    return f"{statistics.geometric_mean(values):.2f}" + (f" ({len(values)})" if len(values) < count else "")


def _tables(rows: Sequence[Row]) -> list[str]:
    """A table for each network."""
    sections = []
    for network, group in groupby(rows, key=lambda row: row.network):
        multiples = " | ".join(f"/ {name}" for name in OTHERS.values())
        table = [
            f"## {network}",
            "",
            f"| layer | untuned | ours | {' | '.join(OTHERS.values())} | {multiples} | limit | share | bound by | algorithm "
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
    for layout in LAYOUTS:
        group = [line for line in found if line["layer"].endswith(CHANNELS_LAST) == (layout == "NHWC")]
        if group:
            count = sum(line["configurations"] for line in group)
            close, long = (sum(line[name] * line["configurations"] for line in group) / count for name in ("near", "long"))
            table += [
                "",
                f"Of {count} in {layout}, {close:.1%} are within {SLOW:g}x of their layer's best, on the worst layer "
                f"{min(line['near'] for line in group):.0%}; {long:.1%} compile longer than {LONG:g} s.",
            ]
    return "\n".join(table)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
