"""The picture of the comparison of CPU kernels: everybody beside oneDNN and the roofline."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from experiments.command import pyplot
from experiments.kernel_rows import OTHERS, Row


def draw(rows: Sequence[Row], device: str, path: Path) -> None:
    """A panel for each network: everybody as a multiple of oneDNN, the limit as a line."""
    if (plot := pyplot("cpu_kernels")) is None:
        return
    shown = [row for row in rows if "onednn" in row.gflops]
    networks = [(network, list(group)) for network, group in groupby(shown, key=lambda row: row.network)]
    if not networks:
        print("cpu_kernels: no picture, which shows multiples of oneDNN; compare with --torch-python", file=sys.stderr)
        return
    figure, panels = plot.subplots(
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
    plot.close(figure)
