"""Tables and curves of the comparison of search methods on a GPU."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from experiments import log, metaschedule
from experiments.command import pyplot
from experiments.cuda_comparison_rows import (
    FIXED,
    METASCHEDULE,
    Row,
    called,
    geometric_mean,
    grouped,
    means,
    methods,
    rows_of,
    shared,
)
from experiments.cuda_rivals import MetaSchedule
from experiments.device_comparison import Setting
from experiments.device_judgement import Judgements

DRAWN = ("cuDNN", "cuDNN, TF32")
"""What the picture shows as lines."""

RESULTS = Path(__file__).parent / "results"


def write(setting: Setting, results: Path) -> None:
    """Write `cuda_comparison.{md,json,png}` into `results`.

    **Raises:** `FileNotFoundError` if no tuning was judged yet.
    """
    tunings, judgements = log.read(setting.tunings), log.read(setting.judgements)
    lines = Judgements(judgements).worth(setting.finished(tunings))
    rows = rows_of(lines, judgements, setting.budgets)
    if not rows:
        raise FileNotFoundError(f"{setting.folder} holds no judged tuning yet; run the stages `tune` and `judge` first.")
    groups = grouped(rows)
    last = {line["task"]: line for line in judgements}
    stored: dict[str, Any] = {
        "device": device_of(last),
        "budgets": setting.budgets,
        "means": {name: means(group, setting.budgets) for name, group in groups.items()},
        "rows": [vars(row) for row in rows],
        "seconds": (seconds := seconds_of(lines, setting)),
    }
    results.mkdir(parents=True, exist_ok=True)
    (results / "cuda_comparison.json").write_text(json.dumps(stored, indent=1) + "\n")
    sections = [
        _heading(stored["device"], setting),
        *(_means(name, group, setting.budgets) for name, group in groups.items()),
        _fixed(rows),
        *(_layer(row, setting.budgets) for row in rows),
        _seconds(seconds),
    ]
    (results / "cuda_comparison.md").write_text("\n\n".join(sections) + "\n")
    draw(groups, setting.budgets, results / "cuda_comparison.png")


def device_of(last: Mapping[str, Mapping]) -> dict[str, Any]:
    """What the last judgement of each layer ran on: device, driver, versions, and the range of what was seen of clocks."""
    states = [state for line in last.values() for state in line["states"] if not isinstance(state, str)]
    seen = {
        name: [min(values), max(values)]
        for name in ("sm_mhz", "most_sm_mhz", "memory_mhz", "celsius", "watts")
        if (values := [state[name] for state in states if state[name] is not None])
    }
    torch: Mapping[str, Any] = next((line["torch"] for line in last.values() if "torch" in line), {})
    devices = sorted({line["device"] for line in last.values()})
    driver = {name: states[-1][name] for name in ("driver", "cuda")} if states else {}
    return {"device": ", ".join(devices), **driver, "torch": torch, "seen": seen}


def seconds_of(lines: Sequence[Mapping], setting: Setting) -> dict[str, dict[str, float]]:
    """The median seconds that a tuning thought and measured; of MetaSchedule's, both together."""
    collected: dict[str, list[Mapping]] = defaultdict(list)
    for line in lines:
        collected[called(line)].append(line)
    seconds = {
        name: {
            "tunings": len(each),
            "at once": max(line["at_once"] for line in each),
            "thinking": statistics.median(line["seconds"] for line in each),
            "measuring": statistics.median(line["measuring"] for line in each),
        }
        for name, each in collected.items()
    }
    theirs = MetaSchedule(setting)
    spent = [metaschedule.spent(theirs.folder(*layer)) for layer in setting.layers if theirs.finished(*layer)]
    if spent:
        together = statistics.median(each for _, each in spent)
        seconds[METASCHEDULE] = {
            "tunings": len(spent),
            "together": together,
            "least trials": min(trials for trials, _ in spent),
        }
    return seconds


def _heading(device: Mapping[str, Any], setting: Setting) -> str:
    torch = device["torch"]
    pytorch = f"PyTorch {torch['torch']}, cuDNN {torch['cudnn']}" if torch else "no PyTorch"
    driver = f", driver {device['driver']} (CUDA {device['cuda']})" if "driver" in device else ""
    seen = "; ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in device["seen"].items())
    space = "all that the templates can do" if setting.enlarged else "AutoTVM's knobs"
    return "\n".join(
        [
            "# Search methods on a GPU",
            "",
            f"{device['device']}{driver}, {pytorch}. Batch 1, float32, NCHW; spaces of {space}. GFLOPS of the direct "
            "algorithm, means over seeds.",
            "",
            f"What each tuning held best after {', '.join(map(str, setting.budgets))} measurements, what MetaSchedule held "
            "best after as many, TVM's default schedule and PyTorch's kernels were measured in turns in one run, layer by "
            "layer; of each the fastest turn counts. Ours and MetaSchedule's are launched in a row for "
            f"{setting.min_repeat_ms} ms, the median of three such times. PyTorch is an eager call, launched in a row too; "
            "cuDNN is the kernels that such a call launches, replayed as a CUDA graph; both are the faster of NCHW and "
            "channels last, the median of nine times.",
            *(["", f"Seen between turns: {seen}."] if seen else []),
        ]
    )


def _means(group: str, rows: Sequence[Row], budgets: Sequence[int]) -> str:
    table = [
        f"## Geometric means, {group}",
        "",
        f"Over the {len(shared(rows))} layers that all methods have tuned.",
        "",
        f"| method | | {' | '.join(map(str, budgets))} |",
        "|---" * (len(budgets) + 2) + "|",
    ]
    for name, quantities in means(rows, budgets).items():
        for quantity, values in quantities.items():
            if any(value is not None for value in values):
                table.append(f"| {name} | {quantity} | {' | '.join(_number(value, quantity) for value in values)} |")
    return "\n".join(table)


def _number(value: float | None, quantity: str = "GFLOPS") -> str:
    return "-" if value is None else f"{value:.0f}" if quantity == "GFLOPS" else f"{value:.2f}"


def _fixed(rows: Sequence[Row]) -> str:
    table = [
        "## Without measurements",
        "",
        f"| layer | {' | '.join(FIXED)} | the kernels' names |",
        "|---" * (len(FIXED) + 2) + "|",
    ]
    for row in rows:
        kernels = ", ".join(f"{name}: `{kernel}`" for name, kernel in row.kernels.items() if kernel)
        table.append(f"| {row.layer} | {' | '.join(_number(row.fixed.get(name)) for name in FIXED)} | {kernels} |")
    return "\n".join(table)


def _layer(row: Row, budgets: Sequence[int]) -> str:
    table = [f"## {row.layer}", "", f"| method | {' | '.join(map(str, budgets))} | seeds |", "|---" * (len(budgets) + 2) + "|"]
    for name, values in row.searched.items():
        table.append(f"| {name} | {' | '.join(map(_number, values))} | {row.seeds.get(name, 1)} |")
    return "\n".join(table)


def _seconds(seconds: Mapping[str, Mapping[str, float]]) -> str:
    table = ["## Seconds of a tuning", "", "| method | tunings | at once | thinking | measuring |", "|---" * 5 + "|"]
    for name, each in seconds.items():
        if name == METASCHEDULE:
            table.append(f"| {name} | {each['tunings']} | 1 | | {each['together']:.0f} together |")
        else:
            cells = f"{each['tunings']} | {each['at once']} | {each['thinking']:.1f} | {each['measuring']:.1f}"
            table.append(f"| {name} | {cells} |")
    text = ["", "Medians; measuring counts compiling, and waiting for tunings that measure at the same time."]
    if METASCHEDULE in seconds:
        text.append(f"MetaSchedule's searches have measured {seconds[METASCHEDULE]['least trials']} candidates at least.")
    return "\n".join([*table, *text])


def draw(groups: Mapping[str, Sequence[Row]], budgets: Sequence[int], path: Path) -> None:
    """A panel for each group of layers: geometric means of GFLOPS by measurements, cuDNN's as lines."""
    if (plot := pyplot("cuda_comparison")) is None:
        return
    figure, panels = plot.subplots(1, len(groups), figsize=(6 * len(groups), 4.5), squeeze=False, layout="constrained")
    colours = dict(zip([*methods(groups["all"]), METASCHEDULE], cycle(plot.get_cmap("tab20").colors), strict=False))
    for panel, (group, rows) in zip(panels.flat, groups.items(), strict=True):
        for name, quantities in means(rows, budgets).items():
            width = 2.5 if name == "gausstune" else 1
            panel.plot(budgets, quantities["GFLOPS"], ".-", color=colours[name], label=name, linewidth=width)
        for name, style in zip(DRAWN, ("--", ":"), strict=True):
            levels = [row.fixed[name] for row in shared(rows) if name in row.fixed]
            if levels and len(levels) == len(shared(rows)):
                panel.axhline(geometric_mean(levels), color="black", linestyle=style, linewidth=1, label=name)
        panel.set_xscale("log", base=2)
        panel.set_xticks(budgets, map(str, budgets))
        panel.set_title(f"{group}: {len(shared(rows))} layers")
        panel.set_xlabel("measurements")
        panel.set_ylabel("GFLOPS")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plot.close(figure)
