"""Tables and curves of the comparison of search methods."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from experiments import log
from experiments.command import pyplot

RESULTS = Path(__file__).parent / "results"
BUDGETS = (8, 16, 32, 64, 128, 256)
SUMMARY = (16, 32, 64, 128)
FEW = 10
"""Of up to so many tasks, each has a row of its own."""

TASKS = {"tables": "exhaustive tables", "pools": "recorded pools", "llvm": "layers on this CPU"}
HISTORY = {
    "none": "no history",
    "same": "history of related tasks",
    "inverted": "history, throughputs inverted",
    "permuted": "history, throughputs permuted",
    "mixed": "history, half of the sources inverted",
}

Curves = dict[str, Float[np.ndarray, "tasks budgets"]]
"""The mean over seeds of each task, for each method."""


def write(logs: Iterable[Path]) -> None:
    """Write `results/method_comparison.{md,json,png}` from logs of the experiment."""
    lines = shares(line for path in logs for line in log.read(path))
    if not lines:
        raise FileNotFoundError("logs: nothing was recorded yet; first run `method_comparison run --tasks tables`.")
    settings: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for line in lines:
        if not _ablated(line):
            settings[line["tasks"], line["history"]].append(line)
    RESULTS.mkdir(exist_ok=True)
    ordered = dict(sorted(settings.items(), key=lambda item: (list(TASKS).index(item[0][0]), list(HISTORY).index(item[0][1]))))
    curves = {setting: curves_of(group) for setting, group in ordered.items()}
    stored = [
        {
            "tasks": tasks,
            "history": history,
            "budgets": BUDGETS,
            "best": {m: c.mean(axis=0).tolist() for m, c in methods.items()},
        }
        for (tasks, history), methods in curves.items()
    ]
    (RESULTS / "method_comparison.json").write_text(json.dumps(stored, indent=1) + "\n")
    sections = [_section(setting, curves[setting], group) for setting, group in ordered.items()]
    sections += [_section(setting, curves_of(group), group, ": ablations") for setting, group in ablations(lines).items()]
    heading = "# Search methods\n\nShare of the best that is known, after so many measurements.\n"
    tasks = {setting: common_tasks(group) for setting, group in ordered.items()}
    (RESULTS / "method_comparison.md").write_text("\n".join([heading, *summary(curves, tasks), *sections]))
    _draw(curves, RESULTS / "method_comparison.png")


def summary(
    curves: Mapping[tuple[str, str], Curves], compared: Mapping[tuple[str, str], list], ours: str = "gausstune"
) -> list[str]:
    """A table of all settings: our method's mean, and that of the best other one with its name.

    The last column is how many measurements our method needs on the median task to reach what `autotvm` without a history
    reaches with 256.

    **Arguments:**

    - `curves`: those of each setting, tasks and history; `compared`: the tasks that they are of.
    """
    rows = []
    for (tasks, history), methods in curves.items():
        if ours not in methods or len(methods) == 1:
            continue
        level = curves.get((tasks, "none"), {}).get("autotvm")
        soon = ""
        if level is not None and level.shape[1] == len(BUDGETS) and compared[tasks, history] == compared[tasks, "none"]:
            needed = [reached(curve, goal) for curve, goal in zip(methods[ours], level[:, -1], strict=True)]
            soon = f"{np.median(needed):.0f}"
        beside = _beside_best({method: curve.mean(axis=0) for method, curve in methods.items()}, ours)
        rows.append(f"| {TASKS[tasks]} | {HISTORY[history]} | {beside} | {soon} |")
    return [
        f"## {ours} / the best other method",
        "",
        f"| tasks | history | {' | '.join(map(str, SUMMARY))} | to autotvm's 256 |",
        "|---" * (len(SUMMARY) + 3) + "|",
        *rows,
        "",
    ]


def by_task(curves: Curves, tasks: Sequence[tuple[str, str]], ours: str = "gausstune") -> list[str]:
    """A table of a setting's tasks, given by device and name: our method's mean over seeds, and that of the best other one."""
    if ours not in curves or len(curves) == 1:
        return []
    several = len({device for device, _ in tasks}) > 1
    rows = [
        f"| {task}{several * f' on {device}'} "
        f"| {_beside_best({method: curve[place] for method, curve in curves.items()}, ours)} |"
        for place, (device, task) in enumerate(tasks)
    ]
    return [
        f"{ours} / the best other method, by task.",
        "",
        f"| task | {' | '.join(map(str, SUMMARY))} |",
        "|---" * (len(SUMMARY) + 1) + "|",
        *rows,
        "",
    ]


def _beside_best(best: Mapping[str, Float[np.ndarray, " budgets"]], ours: str) -> str:
    """Cells of a table, one for each budget of `SUMMARY`."""
    cells = []
    for place in map(BUDGETS.index, SUMMARY):
        other = max((method for method in best if method != ours), key=lambda method: best[method][place])
        cells.append(f"{best[ours][place]:.3f} / {best[other][place]:.3f} {other}")
    return " | ".join(cells)


def reached(curve: Float[np.ndarray, " budgets"], level: float) -> float:
    """How many measurements a curve over `BUDGETS` takes to a level, between two budgets on a logarithmic scale."""
    if curve.max() < level:
        return np.inf
    after = int(np.argmax(curve >= level))
    return float(2 ** np.interp(level, curve[max(after - 1, 0) : after + 1], np.log2(BUDGETS[max(after - 1, 0) : after + 1])))


def ablations(lines: Iterable[Mapping]) -> dict[tuple[str, str], list[Mapping]]:
    """Where ingredients of a method were changed: those lines, and the method's own on the same tasks with the same seeds."""
    lines = list(lines)
    settings: dict[tuple[str, str], list[Mapping]] = defaultdict(list)
    for line in filter(_ablated, lines):
        settings[line["tasks"], line["history"]].append(line)
    for setting, group in settings.items():
        names = {whole(line["method"]) for line in group}
        runs = {(line["device"], line["task"], line["seed"]) for line in group}
        unchanged = (line for line in lines if line["method"] in names and (line["tasks"], line["history"]) == setting)
        group.extend(line for line in unchanged if (line["device"], line["task"], line["seed"]) in runs)
    return settings


def whole(name: str) -> str:
    """The method of which an ablation changes an ingredient: "gausstune" of "gausstune, batches of 64"."""
    return name.partition(",")[0]


def _ablated(line: Mapping) -> bool:
    return whole(line["method"]) != line["method"]


def shares(lines: Iterable[Mapping]) -> list[dict]:
    """The lines with throughputs as shares of the best of their task: of what any method found, where no table knows more."""
    lines = list(lines)
    best: dict[tuple, float] = defaultdict(float)
    for line in lines:
        best[line["tasks"], line["device"], line["task"]] = max(
            best[line["tasks"], line["device"], line["task"]], *line["best"]
        )
    known = {key: value if key[0] == "llvm" else 1.0 for key, value in best.items()}
    return [
        {**line, "best": [value / known[line["tasks"], line["device"], line["task"]] for value in line["best"]]}
        for line in lines
    ]


def curves_of(lines: Iterable[Mapping]) -> Curves:
    """Average seeds; tasks in order. Methods are compared on the tasks that all of them have."""
    lines = list(lines)
    collected: dict[str, dict[tuple, list]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        collected[line["method"]][line["device"], line["task"]].append(line["best"])
    common = common_tasks(lines)
    return {method: np.array([np.mean(tasks[task], axis=0) for task in common]) for method, tasks in collected.items()}


def common_tasks(lines: Iterable[Mapping]) -> list[tuple[str, str]]:
    """Device and name of the tasks that all methods have, in order."""
    collected: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for line in lines:
        collected[line["method"]].add((line["device"], line["task"]))
    return sorted(set.intersection(*collected.values()))


def _section(setting: tuple[str, str], curves: Curves, lines: Iterable[Mapping], kind: str = "") -> str:
    """A table: methods by budgets, mean over tasks and deviation of the tasks' means; the best of each column in bold."""
    lines = list(lines)
    seeds = {method: len({line["seed"] for line in lines if line["method"] == method}) for method in curves}
    thought = {method: np.median([line["seconds"] for line in lines if line["method"] == method]) for method in curves}
    tasks, length = next(iter(curves.values())).shape
    budgets = BUDGETS[:length]
    best = np.max([curve.mean(axis=0) for curve in curves.values()], axis=0)
    rows = []
    for method, curve in sorted(curves.items(), key=lambda item: -item[1].mean()):
        cells = [
            f"{'**' if mean >= top - 5e-4 else ''}{mean:.3f}{'**' if mean >= top - 5e-4 else ''} ±{spread:.2f}"
            for mean, spread, top in zip(curve.mean(axis=0), curve.std(axis=0), best, strict=True)
        ]
        rows.append(f"| {method} | {' | '.join(cells)} | {seeds[method]} | {thought[method]:.1f} |")
    return "\n".join(
        [
            f"## {tasks} {TASKS[setting[0]]}, {HISTORY[setting[1]]}{kind}",
            "",
            f"| method | {' | '.join(map(str, budgets))} | seeds | seconds of thinking |",
            "|---" * (len(budgets) + 3) + "|",
            *rows,
            "",
            *(by_task(curves, common_tasks(lines)) if tasks <= FEW and not kind else []),
            *(_judged(lines) if setting[0] == "llvm" else []),
        ]
    )


def _judged(lines: Iterable[Mapping]) -> list[str]:
    """A table: the best kernel of each task measured again, GFLOPS, mean over seeds; and seconds of measuring."""
    collected: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    measuring: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        collected[line["method"]][line["task"]].append(line["judged"])
        measuring[line["method"]].append(line["measuring"])
    tasks = sorted({task for found in collected.values() for task in found})
    rows = [
        f"| {method} | {' | '.join(f'{np.mean(found[task]):.1f}' if task in found else '' for task in tasks)} "
        f"| {np.median(measuring[method]):.0f} |"
        for method, found in collected.items()
    ]
    return [
        "GFLOPS of the best kernel, measured again.",
        "",
        f"| method | {' | '.join(tasks)} | seconds of measuring |",
        "|---" * (len(tasks) + 2) + "|",
        *rows,
        "",
    ]


def _draw(curves: Mapping[tuple[str, str], Curves], path: Path) -> None:
    """A panel for each setting: the mean over tasks, and between the quartiles of the tasks."""
    if not curves or (plot := pyplot("method_comparison")) is None:
        return
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure, panels = plot.subplots(rows, columns, figsize=(6 * columns, 4.5 * rows), squeeze=False, layout="constrained")
    names = list(dict.fromkeys(method for methods in curves.values() for method in methods))
    colours = dict(zip(names, plot.get_cmap("tab20").colors, strict=False))
    for panel, ((tasks, history), methods) in zip(panels.flat, curves.items(), strict=False):
        for method, curve in methods.items():
            ours = method == "gausstune"
            low, high = np.quantile(curve, [0.25, 0.75], axis=0)
            budgets = BUDGETS[: curve.shape[1]]
            panel.fill_between(budgets, low, high, color=colours[method], alpha=0.15 if ours else 0.04, linewidth=0)
            panel.plot(budgets, curve.mean(axis=0), ".-", color=colours[method], label=method, linewidth=2.5 if ours else 1)
        panel.set_xscale("log", base=2)
        panel.set_xticks(BUDGETS, map(str, BUDGETS))
        panel.set_title(f"{TASKS[tasks]}, {HISTORY[history]}")
        panel.set_xlabel("measurements")
        panel.set_ylabel("share of the best known")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    for panel in list(panels.flat)[len(curves) :]:
        panel.remove()
    figure.savefig(path, dpi=110)
    plot.close(figure)
