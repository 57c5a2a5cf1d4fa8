"""Two layouts in one network: the labels of least cost, by a minimum cut.

An operator runs in one of two layouts, its label; a tensor that is made in one layout and read in the other is transposed,
once for all that read it so. With costs that are not negative this is a minimum cut (Greig, Porteous and Seheult, JRSS B
1989), so its labels are the best of all 2^n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CAPACITIES = 1 << 29
"""What all finite costs together become as capacities: SciPy counts flow in 32 bits, and says nothing if it overflows."""

INFINITE = 2 * CAPACITIES
"""The capacity of an edge that cannot be cut."""


class Tensor(NamedTuple):
    """A result that passes between operators.

    - `producer`, `consumers`: the numbers of the operators that make and read it.
    - `transposition`: the cost of having it in layout 1 too where it is made in layout 0, and the other way round.
    """

    producer: int
    consumers: tuple[int, ...]
    transposition: tuple[float, float]


def cheapest_labels(costs: Float[np.ndarray, "n 2"], tensors: Sequence[Tensor]) -> Int[np.ndarray, " n"]:
    """Choose a label, 0 or 1, for each of n operators, so that operators and transpositions together cost least.

    Costs enter the cut as whole numbers: what is returned costs at most a part in 10^8 of all costs' sum, for each operator and
    tensor, more than the best. Where labels cost the same, operators have label 0.

    **Arguments:**

    - `costs`: of each operator under either label, in any unit; infinite where the operator cannot have the label.
    - `tensors`: what passes between them, transpositions in the same unit; infinite where labels must agree.

    **Raises:** `ValueError` for a cost that is negative or no number, or if no labels have a finite cost.
    """
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow  # here: builders, too, load this module

    costs = np.asarray(costs, float).reshape(-1, 2)
    every = np.array([*costs.flat, *(cost for tensor in tensors for cost in tensor.transposition)])
    if not (every >= 0).all():
        raise ValueError(f"costs: {every[~(every >= 0)][0]} must be a number and not negative.")
    total = every[np.isfinite(every)].sum()
    scale = 2.0 ** min(np.floor(np.log2(CAPACITIES) - np.log2(total)), 1000) if total > 0 else 1.0
    capacities = _capacities(costs * scale, tensors, scale)
    source, sink = len(costs), len(costs) + 1
    if sink in breadth_first_order(_only(capacities, capacities.data == INFINITE), source, return_predecessors=False):
        raise ValueError("costs: no labels have a finite cost; allow operators that must agree the same label.")
    residual = capacities - maximum_flow(capacities, source, sink).flow
    labels = np.zeros(capacities.shape[0], int)
    labels[breadth_first_order(_only(residual, residual.data > 0).T, sink, return_predecessors=False)] = 1
    return labels[: len(costs)]


def labels_cost(labels: Int[np.ndarray, " n"], costs: Float[np.ndarray, "n 2"], tensors: Sequence[Tensor]) -> float:
    """The cost of n operators under their labels, with the transpositions that these need."""
    operators = np.asarray(costs)[np.arange(len(labels)), labels].sum()
    return float(operators + sum(tensor.transposition[labels[tensor.producer]] for tensor in transposed(labels, tensors)))


def transposed(labels: Int[np.ndarray, " n"], tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that some operator reads in another layout than they are made in."""
    return [tensor for tensor in tensors if any(labels[each] != labels[tensor.producer] for each in tensor.consumers)]


def _capacities(costs: Float[np.ndarray, "n 2"], tensors: Sequence[Tensor], scale: float) -> csr_array:
    """The graph to cut: operators, source, sink, and two copies of each tensor, one in either layout.

    What stays with the source has label 0. An edge is cut where its tail has label 0 and its head label 1. A copy in layout 1
    is there if an operator reads it so, which infinite edges see to; it costs a transposition if the tensor is made in 0.
    """
    from scipy.sparse import csr_array

    count = len(costs)
    source, sink = count, count + 1
    edges: dict[tuple[int, int], float] = {}
    for operator, (first, second) in enumerate(costs):
        common = min(first, second)
        if np.isfinite(common):
            edges[operator, sink], edges[source, operator] = first - common, second - common
        else:
            edges[operator, sink] = edges[source, operator] = np.inf
    copy = count + 2
    for tensor in tensors:
        zero, one, copy = copy, copy + 1, copy + 2
        edges[tensor.producer, one], edges[zero, tensor.producer] = np.array(tensor.transposition) * scale
        for consumer in tensor.consumers:
            edges[one, consumer] = edges[consumer, zero] = np.inf
    ends = np.array(list(edges), int).reshape(-1, 2)
    capacities = np.minimum(np.array(list(edges.values())), INFINITE).round().astype(np.int32)
    return csr_array((capacities, (ends[:, 0], ends[:, 1])), shape=(copy, copy))


def _only(graph: csr_array, chosen: Bool[np.ndarray, " edges"]) -> csr_array:
    """The graph with the chosen edges alone."""
    from scipy.sparse import csr_array

    graph = graph.tocoo()
    return csr_array((graph.data[chosen], (graph.row[chosen], graph.col[chosen])), shape=graph.shape)
