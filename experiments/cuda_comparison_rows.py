"""Layers as rows of the comparison on a GPU: everybody's throughput, and what a group of layers has in the mean."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.cuda_rivals import kernel_name
from experiments.device_judgement import UNTUNED, Judgements
from experiments.method_comparison import applies
from experiments.torch_cuda_convolution import EAGER, KERNELS, LAYOUTS
from tvm_bridge import networks

METASCHEDULE = "MetaSchedule"
FIXED = {
    "untuned": (UNTUNED,),
    "PyTorch": EAGER[: len(LAYOUTS)],
    "PyTorch, TF32": EAGER[len(LAYOUTS) :],
    "cuDNN": KERNELS[: len(LAYOUTS)],
    "cuDNN, TF32": KERNELS[len(LAYOUTS) :],
}
"""What needs no measurements, and its kernels, of which the fastest counts."""
MULTIPLES = (METASCHEDULE, "cuDNN", "cuDNN, TF32", "untuned")
"""What is compared with in geometric means."""


@dataclass(frozen=True)
class Row:
    """A layer: GFLOPS after each budget, mean over seeds, of methods and MetaSchedule; those that need no measurements apart.

    - `searched`: by name, one value for each budget.
    - `fixed`: by name, one value.
    - `kernels`: PyTorch's names for kernels.
    """

    layer: str
    group: str
    seeds: dict[str, int]
    searched: dict[str, list[float]]
    fixed: dict[str, float]
    kernels: dict[str, str]

    def multiple(self, name: str, other: str, place: int) -> float | None:
        """Throughput after the budget at `place`, as a multiple of another's, after the same budget if it needs one."""
        beside = self.searched[other][place] if other in self.searched else self.fixed.get(other)
        return self.searched[name][place] / beside if beside else None


def rows_of(lines: Sequence[Mapping], judgements: Sequence[Mapping], budgets: Sequence[int]) -> list[Row]:
    """A row for each layer that has a judged tuning with these budgets."""
    fastest = Judgements(judgements).fastest
    last = {line["task"]: line for line in judgements}
    layers: dict[tuple[str, str], dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        layers[line["network"], line["layer"]][called(line)].append(line["best"])
    rows = []
    for (network, layer), found in layers.items():
        task = f"{network} {layer}"
        kernels = fastest[task]
        searched = {name: np.mean(each, axis=0).round(2).tolist() for name, each in found.items()}
        if kernels.keys() >= set(theirs := [kernel_name(budget) for budget in budgets]):
            searched[METASCHEDULE] = [kernels[name] for name in theirs]
        fixed = {name: max(kernels[each] for each in its) for name, its in FIXED.items() if kernels.keys() >= set(its)}
        group = "depthwise" if networks.layer(network, layer).workload.depthwise else "dense and pointwise"
        seeds = {name: len(each) for name, each in found.items()}
        rows.append(Row(task, group, seeds, searched, fixed, last[task].get("implementations", {})))
    return rows


def called(line: Mapping) -> str:
    """A method's name, with what it had beyond what it needs."""
    taught = line["history"] != "none" and applies(line["method"], "none")
    return line["method"] + ", taught" * taught


def grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """All layers, and those of each kind; none is empty."""
    return {"all": list(rows)} | {
        group: [row for row in rows if row.group == group] for group in dict.fromkeys(row.group for row in rows)
    }


def methods(rows: Sequence[Row]) -> list[str]:
    """Our methods, in order of their first layer."""
    return list(dict.fromkeys(name for row in rows for name in row.searched if name != METASCHEDULE))


def shared(rows: Sequence[Row]) -> list[Row]:
    """The layers that all methods have tuned."""
    return [row for row in rows if row.searched.keys() >= set(methods(rows))]


def means(rows: Sequence[Row], budgets: Sequence[int]) -> dict[str, dict[str, list[float | None]]]:
    """For each method, geometric means by budget: of GFLOPS, and of multiples of others; None where nobody is beside it.

    They are over the layers that all methods share; MetaSchedule is a method if it has all of these too.
    """
    names = methods(rows)
    if rows and all(METASCHEDULE in row.searched for row in shared(rows)):
        names.append(METASCHEDULE)
    return {
        name: {
            "GFLOPS": [geometric_mean([row.searched[name][place] for row in shared(rows)]) for place in range(len(budgets))],
            **{
                f"/ {other}": [
                    geometric_mean([each for row in shared(rows) if (each := row.multiple(name, other, place)) is not None])
                    for place in range(len(budgets))
                ]
                for other in MULTIPLES
                if other != name
            },
        }
        for name in names
    }


def geometric_mean(values: Sequence[float]) -> float | None:
    """Of numbers from 0: 0 if one is 0, None if there is none."""
    if not values:
        return None
    return statistics.geometric_mean(values) if min(values) > 0 else 0.0
