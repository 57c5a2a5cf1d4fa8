"""Tables and a figure of the accuracy experiment."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments import log
from experiments.ablations import ABLATIONS
from experiments.accuracy import COLUMNS
from experiments.command import pyplot

RESULTS = Path(__file__).parent / "results"
SETTING = ("device", "sources", "rows", "points", "selection", "judge")
JUDGEMENT = (*SETTING, "layer", "seed", "surrogate")
"""What a line is about; of two about the same, the later one counts."""

LOWER_IS_BETTER = ("rmse", "nlpd")
SELECTED = {"top": "the first of the zero-shot ranking", "random": "random", "half": "half of either kind"}
CARDS = {"gtx1650": "a GTX 1650", "rtx3080": "an RTX 3080", "v100": "a V100"}
JUDGED = {"random": "random configurations", "all": "all that tuners measured"}

Summary = dict[str, dict[str, tuple[float, float]]]
"""{surrogate: {column: (mean over layers and seeds, standard deviation of the layers' means)}}"""


def write(logs: Iterable[Path]) -> None:
    """Write `results/surrogate_accuracy.{md,json,png}` from logs of the experiment."""
    judgements = {tuple(line[name] for name in JUDGEMENT): line for path in logs for line in log.read(path)}
    lines = list(judgements.values())
    if not lines:
        raise FileNotFoundError("logs: nothing was recorded yet; first run `surrogate_accuracy.py run --device ...`.")
    settings: dict[tuple, list[dict]] = defaultdict(list)
    for line in lines:
        device = "v100" if line["device"] == "v100" else "gtx1650 and rtx3080"
        settings[(device, *(line[name] for name in SETTING[1:]))].append(line)
    summaries = {setting: summary(group) for setting, group in sorted(settings.items(), key=_order)}
    RESULTS.mkdir(exist_ok=True)
    stored = [{**dict(zip(SETTING, setting, strict=True)), "figures": figures} for setting, figures in summaries.items()]
    (RESULTS / "surrogate_accuracy.json").write_text(json.dumps(stored, indent=1) + "\n")
    sections = [_section(setting, figures, settings[setting]) for setting, figures in summaries.items()]
    legend = [f"- {name}: {meaning}" for name, meaning in COLUMNS.items()]
    heading = [
        "# Accuracy of surrogates on recorded layers",
        "",
        "Means over layers and seeds (± deviation of the layers).",
        "",
    ]
    (RESULTS / "surrogate_accuracy.md").write_text("\n".join([*heading, *legend, "", *sections]))
    _draw(summaries, RESULTS / "surrogate_accuracy.png")


def _order(item: tuple[tuple, list]) -> tuple:
    """The most telling table first: ResNet-18, taught on the same device, most points."""
    device, sources, rows, points, selection, judge = item[0]
    return device == "v100", sources != "same", rows != "admitted", -points, list(SELECTED).index(selection), judge


def summary(lines: Sequence[Mapping]) -> Summary:
    """Average the seeds of each layer, then the layers."""
    collected: dict[str, dict[str, dict[tuple, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for line in lines:
        for column in COLUMNS:
            if column in line:
                collected[line["surrogate"]][column][line["device"], line["layer"]].append(line[column])
    return {
        name: {column: _mean_and_spread(by_layer) for column, by_layer in collected[name].items()}
        for name in ABLATIONS
        if name in collected
    }


def _mean_and_spread(by_layer: Mapping[tuple, list[float]]) -> tuple[float, float]:
    means = [statistics.fmean(values) for values in by_layer.values()]
    return statistics.fmean(means), statistics.stdev(means) if len(means) > 1 else 0.0


def table(figures: Summary) -> list[str]:
    """A markdown table, the best of each column in bold."""
    best = {column: _best(column, figures) for column in COLUMNS}
    rows = ["| surrogate | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, row in figures.items():
        cells = []
        for column in COLUMNS:
            if column not in row:
                cells.append("")
                continue
            mean, deviation = row[column]
            cells.append(f"**{mean:.3f}** ±{deviation:.2f}" if name == best[column] else f"{mean:.3f} ±{deviation:.2f}")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return rows


def _best(column: str, figures: Summary) -> str | None:
    """The surrogate that is best in a column: lowest, closest to what it should be, or highest."""
    means = {name: row[column][0] for name, row in figures.items() if column in row}
    if not means:
        return None
    if column == "coverage":
        return min(means, key=lambda name: abs(means[name] - 0.9))
    return (min if column in LOWER_IS_BETTER else max)(means, key=means.__getitem__)


def _section(setting: tuple, figures: Summary, lines: Sequence[Mapping]) -> str:
    device, sources, rows, points, selection, judge = setting
    layers = len({(line["device"], line["layer"]) for line in lines})
    seeds = len({line["seed"] for line in lines})
    learned = "the same device" if sources == "same" else "both devices"
    kept = "" if rows == "admitted" else "; configurations that the template refuses count as failed"
    cards = [CARDS[name] for name in sorted({line["device"] for line in lines})]
    named = f"{'depthwise layers' if device == 'v100' else 'ResNet-18'} on {' and '.join(cards)}"
    title = f"## {named}: {points} points, {SELECTED[selection]}; judged on {JUDGED[judge]}"
    note = f"{layers} layers, {seeds} seeds; pre-trained on other layers of {learned}{kept}."
    return "\n".join([title, "", note, "", *table(figures), "", ""])


def _draw(summaries: Mapping[tuple, Summary], path: Path) -> None:
    """For the larger tuning sets: a panel for each figure, a row for each surrogate, a mark for each selection."""
    if (plot := pyplot("surrogate_accuracy")) is None:
        return
    largest = max(setting[3] for setting in summaries)
    shown = {
        (setting[4], setting[5]): figures
        for setting, figures in summaries.items()
        if setting[:4] == ("gtx1650 and rtx3080", "same", "admitted", largest)
    }
    names = [name for name in reversed(ABLATIONS) if any(name in figures for figures in shown.values())]
    figure, panels = plot.subplots(2, len(COLUMNS), figsize=(18, 8), sharey=True, layout="constrained")
    for row, judge in zip(panels, JUDGED, strict=True):
        for panel, column in zip(row, COLUMNS, strict=True):
            for marker, colour, selection in zip("o^s", ("tab:blue", "tab:orange", "tab:green"), SELECTED, strict=True):
                figures = shown.get((selection, judge), {})
                at = [(figures[name][column][0], names.index(name)) for name in names if column in figures.get(name, {})]
                panel.plot([x for x, _ in at], [y for _, y in at], marker, color=colour, label=selection, alpha=0.8)
            if column in LOWER_IS_BETTER:
                panel.set_xlim(0 if column == "rmse" else None, 2.0)
            if column == "coverage":
                panel.axvspan(0.85, 0.95, color="0.9")
            panel.set_yticks(range(len(names)), names)
            panel.set_title(f"{column}, {JUDGED[judge]}", fontsize=9)
            panel.grid(axis="x", alpha=0.3)
    panels[0, 0].legend(title="tuning set", fontsize=8)
    figure.suptitle(f"{largest} points of a new layer: means over the layers of ResNet-18 on two GPUs")
    figure.savefig(path, dpi=110)
    plot.close(figure)
