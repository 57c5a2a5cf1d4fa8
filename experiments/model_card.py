"""The card of a model that ships: what it has learned, with which settings, and how accurate it is on a network left out."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from experiments.accuracy import COLUMNS
from experiments.accuracy_report import summary, table
from experiments.recordings import Recording
from surrogates import SquareRoot

Figures = dict[str, Any]
"""A judgement: the device, the layer, which surrogate, and the figures of `experiments.accuracy`."""

READY, ADAPTED = "deep GP, zero-shot", "deep GP, MAP + exact GP"
"""The model as it is, and adapted to a few points: the names of two of the accuracy experiment's surrogates."""

VERSIONS = ("gausstune", "apache-tvm", "equinox", "flax", "gpjax", "jax", "numpy", "optax")


def written(
    name: str,
    recordings: Sequence[Recording],
    model: SquareRoot,
    judgements: Sequence[Figures],
    *,
    asked: Mapping[str, Any],
    size: int,
    command: str,
) -> str:
    """The card as Markdown.

    **Arguments:**

    - `recordings`, `model`: what was learned, and what came of it.
    - `judgements`: of another model, which has not learned the network left out, on that network's layers; maybe none.
    - `asked`: `leave_out`, `points`, `rows` and `seed`, as the command took them.
    - `size`: of the model's file, in bytes.
    """
    sections = {
        "Data": _data(recordings, asked["rows"]),
        "Settings": _settings(model, asked["seed"]),
        f"Accuracy on {asked['leave_out']}, left out": _accuracy(judgements, asked["leave_out"], asked["points"]),
        "File": [f"{name}.gst, {size} bytes, float32. Made by", "", "```", command, "```"],
    }
    lines = [f"# {name}", "", "A deep Gaussian process of square roots of throughputs, each as a share of its task's best."]
    for title, body in sections.items():
        lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def _data(recordings: Sequence[Recording], rows: int | None) -> list[str]:
    """A row for each device and network: its layers, configurations, failures and what the template refuses."""
    groups: dict[tuple[str, str], list[Recording]] = defaultdict(list)
    for recording in recordings:
        groups[recording.layer.device, ", ".join(recording.networks) or "none that is known"].append(recording)
    lines = ["| device | networks | layers | configurations | of them failed | refused |", "|---|---|---|---|---|---|"]
    for (device, homes), group in groups.items():
        count, failed = sum(len(each.layer.y) for each in group), sum(int((each.layer.y == 0).sum()) for each in group)
        lines.append(f"| {device} | {homes} | {len(group)} | {count} | {failed} | {sum(each.refused for each in group)} |")
    learned = "all configurations" if rows is None else f"at most {rows} random configurations of each layer"
    note = (
        f"Devices are called what the records call them. Learned were {learned}; a failure is a throughput of 0. What the "
        "template refuses, which a search never proposes, is left out. A layer that several networks have is counted once."
    )
    return [*lines, "", note, "", "Layers: " + "; ".join(sorted({recording.layer.name for recording in recordings})) + "."]


def _settings(model: SquareRoot, seed: int) -> list[str]:
    settings = {field.name: getattr(model.base, field.name) for field in fields(model.base) if field.name != "state"}
    told = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in VERSIONS)
    return [
        f"`SquareRoot({type(model.base).__name__}({told}))`, seed {seed}.",
        "",
        f"Versions: Python {platform.python_version()}, {versions}.",
    ]


def _accuracy(judgements: Sequence[Figures], network: str, points: int) -> list[str]:
    if not judgements:
        return [f"Not judged: the records have too little of {network} or of other networks."]
    layers = len({(each["device"], each["layer"]) for each in judgements})
    note = (
        f"A model of the same settings, fitted to the other networks alone, on the layers of {network} ({layers} of them): as "
        f"it is, and adapted to at most {points} random configurations of each; judged on the other ones. Means over layers (± "
        "their deviation)."
    )
    return [note, "", *table(summary(judgements)), "", *(f"- {name}: {meaning}" for name, meaning in COLUMNS.items())]
