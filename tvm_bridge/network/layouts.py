"""NCHW or NHWC for every convolution of a network, chosen together with what it costs to pass between them.

The CUHK report (2021, section 4) tuned a network in one layout and in the other and could not join them. Here each
convolution has its fastest kernel in either, each tensor that changes layout its transposition, and a minimum cut the choice.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from tvm_bridge.convolution import CHOSEN, LAYOUTS, Conv2d
from tvm_bridge.measure.base import Measurer
from tvm_bridge.network.layout_cut import Tensor, cheapest_labels, labels_cost
from tvm_bridge.network.layout_graph import LayoutGraph
from tvm_bridge.network.load import Network, load_network
from tvm_bridge.network.transposition import Transposition, transposition_seconds
from tvm_bridge.records import Paths, Record, TaskKey, gather
from tvm_bridge.target import Target


class Costs(Protocol):
    """What convolutions and transpositions cost, in seconds."""

    def kernel(self, workload: Conv2d) -> float:
        """Seconds of a convolution in the workload's layout; infinite if they are not known."""
        ...

    def transpositions(self, needed: Iterable[Transposition]) -> Mapping[Transposition, float]:
        """Seconds of each transposition."""
        ...


@dataclass(frozen=True)
class ConvolutionLayout:
    """A convolution, the layout that was chosen for it, and its seconds in either; infinite where they are not known.

    `workload` is in the chosen layout.
    """

    name: str
    workload: Conv2d
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class LayoutChoice:
    """A network in the layouts that were chosen for it.

    - `network`: in these layouts; its inputs and results keep theirs.
    - `convolutions`: those that could have either layout, in the network's order.
    - `transpositions`: of the tensors that change layout, each once.
    - `seconds`: of the convolutions and transpositions, predicted.
    - `pure`: the same if all these convolutions had one layout; infinite if one has no known time in it.
    """

    network: Network
    convolutions: tuple[ConvolutionLayout, ...]
    transpositions: tuple[Transposition, ...]
    seconds: float
    pure: Mapping[str, float]

    def __str__(self) -> str:
        rows = [("convolution", "data", "weight", "layout", *(f"{layout} [us]" for layout in LAYOUTS))]
        for each in self.convolutions:
            shapes = ("x".join(map(str, extents)) for extents in (each.workload.data, each.workload.weight))
            rows.append((each.name, *shapes, each.workload.layout, *(_shown(each.seconds[layout]) for layout in LAYOUTS)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        pure = ", ".join(f"all {layout} {_shown(self.pure[layout])}" for layout in LAYOUTS)
        lines.append(f"chosen {_shown(self.seconds)} us with {len(self.transpositions)} transposition(s); {pure}")
        return "\n".join(lines)


def choose_layouts(
    model: Any,
    target: Any,
    *,
    records: Paths | Sequence[Record],
    log: str | os.PathLike[str] | None = None,
    measurer: Measurer | None = None,
) -> LayoutChoice:
    """Choose the layouts of a network's convolutions by the fastest kernels on record, and by transpositions measured here.

    To have kernels of both layouts on record, tune the network and `in_layout(network, "NHWC")`, into one log or two.

    **Arguments:**

    - `model`: a `Network`, or whatever `load_network` reads, with all its convolutions in one layout.
    - `target`: "llvm" (this machine's CPU), "cuda", or a TVM target: what the records are of.
    - `records`: of the convolutions' tasks, or their logs, or folders of tunings; of several epilogues the fastest counts.
    - `log`: a file of records; transpositions that it holds are not measured again, what is measured is appended.
    - `measurer`: of transpositions; None for a `Local` closed at the end.

    **Returns:** the choice. Its predicted seconds are never more than those of either pure layout. What operators other than
    convolutions cost is taken not to depend on the layout.

    **Raises:** `ValueError` if no convolution is on record in both layouts, or for a network as `LayoutGraph.of` refuses it.
    """
    network = model if isinstance(model, Network) else load_network(model)
    costs = MeasuredCosts(Target.parse(target).resolve(), records, log, measurer)
    graph = LayoutGraph.of(network.module)
    if not any(np.isfinite(_kernels(workload, costs)).all() for _, _, workload in graph.convolutions):
        raise ValueError(
            f"records: no convolution of {network.name} has been measured on {costs.target} in both layouts; tune the network "
            f"and in_layout(network, {graph.change.target!r}), and give the records of both."
        )
    choice = cheapest_layouts(network, costs, graph=graph)
    return replace(choice, network=replace(choice.network, layout=CHOSEN))


def in_layout(model: Any, layout: str) -> Network:
    """The network with all convolutions that can in one layout, and as few bytes transposed as possible.

    **Arguments:**

    - `model`: as `choose_layouts` takes it.
    - `layout`: "NCHW" or "NHWC".

    **Raises:** `ValueError` for another layout than NCHW and NHWC.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout: {layout!r} is not supported; use {' or '.join(map(repr, LAYOUTS))}.")
    network = model if isinstance(model, Network) else load_network(model)
    return replace(cheapest_layouts(network, _OneLayout(layout)).network, layout=layout)


def cheapest_layouts(network: Network, costs: Costs, *, graph: LayoutGraph | None = None) -> LayoutChoice:
    """Choose the layouts of a network's convolutions by given costs; as `choose_layouts`.

    A convolution whose time is known in one layout only has that layout; one without any keeps its own and counts nothing.
    """
    graph = graph or LayoutGraph.of(network.module)
    layouts = (graph.change.source, graph.change.target)
    kernels = {group: _kernels(workload, costs, layouts) for _, group, workload in graph.convolutions}
    needed = [[graph.transposition(passed, label) for label in (0, 1)] for passed in graph.passed]
    seconds = costs.transpositions(each for both in needed for each in both)
    tensors = [
        Tensor(passed.producer, passed.consumers, (seconds[there], seconds[back]))
        for passed, (there, back) in zip(graph.passed, needed, strict=True)
    ]
    operators = np.where(np.array(graph.free)[:, None], 0.0, [0.0, np.inf])
    for group, both in kernels.items():
        operators[group] = both if np.isfinite(both).any() else (0.0, np.inf)
    labels = [cheapest_labels(operators, tensors)]
    pure = dict.fromkeys(layouts, np.inf)
    for label, layout in enumerate(layouts):
        alone = operators.copy()
        known = [group for group, both in kernels.items() if np.isfinite(both).any()]
        alone[known, 1 - label] = np.inf
        if np.isfinite(alone[known, label]).all():
            labels.append(cheapest_labels(alone, tensors))
            pure[layout] = labels_cost(labels[-1], operators, tensors)
    best = min(labels, key=lambda each: labels_cost(each, operators, tensors))  # the cut's costs are rounded
    return LayoutChoice(
        replace(network, module=graph.converted(best.tolist())),
        tuple(
            ConvolutionLayout(
                name, replace(workload, layout=layouts[best[group]]), dict(zip(layouts, kernels[group], strict=True))
            )
            for name, group, workload in graph.convolutions
        ),
        tuple(
            way
            for passed, both in zip(graph.passed, needed, strict=True)
            if (way := both[best[passed.producer]]).moves
            and any(best[each] != best[passed.producer] for each in passed.consumers)
        ),
        labels_cost(best, operators, tensors),
        pure,
    )


class MeasuredCosts:
    """Costs by records of the convolutions' tasks and by measuring transpositions, as `choose_layouts` takes them."""

    def __init__(
        self,
        target: Target,
        records: Paths | Sequence[Record],
        log: str | os.PathLike[str] | None = None,
        measurer: Measurer | None = None,
    ) -> None:
        self.target, self._log, self._measurer = target, log, measurer
        self._seconds: dict[tuple[str, str], float] = {}
        own = [record for record in gather("records", records) if record.key.target == target]
        if len(devices := sorted({record.measurement.device for record in own} - {""})) > 1:
            raise ValueError(f"records: they are of several devices, {', '.join(devices)}; give those of one.")
        for record in own:
            if record.measurement.ok:
                place = record.key.operator, record.key.args
                self._seconds[place] = min(record.measurement.cost, self._seconds.get(place, np.inf))

    def kernel(self, workload: Conv2d) -> float:
        """Seconds of the fastest kernel on record, of whatever epilogue."""
        key = TaskKey.of(self.target, workload.operator, workload.args)
        return self._seconds.get((key.operator, key.args), np.inf)

    def transpositions(self, needed: Iterable[Transposition]) -> Mapping[Transposition, float]:
        """Seconds of each transposition, measured once."""
        return transposition_seconds(needed, self.target, log=self._log, measurer=self._measurer)


@dataclass(frozen=True)
class _OneLayout:
    """Costs that leave convolutions one layout, and count the bytes of transpositions."""

    layout: str

    def kernel(self, workload: Conv2d) -> float:
        return 0.0 if workload.layout == self.layout else np.inf

    def transpositions(self, needed: Iterable[Transposition]) -> Mapping[Transposition, float]:
        return {each: float(each.bytes * each.moves) for each in needed}


def _kernels(workload: Conv2d, costs: Costs, layouts: Sequence[str] = LAYOUTS) -> list[float]:
    """Seconds of a convolution in each layout."""
    return [costs.kernel(replace(workload, layout=layout)) for layout in layouts]


def _shown(seconds: float) -> str:
    return f"{1e6 * seconds:.1f}" if np.isfinite(seconds) else "-"
