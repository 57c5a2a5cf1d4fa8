"""The labels that a minimum cut chooses, against all labels there are."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_bridge.network.layout_cut import Tensor, cheapest_labels, labels_cost, transposed

LAW = settings(deadline=None)


WHOLE = st.integers(0, 20)


@st.composite
def graphs(draw, amount=WHOLE):
    """Costs of up to seven operators, some of which can have only one label, and tensors between any of them."""
    count = draw(st.integers(1, 7))
    operators = st.integers(0, count - 1)
    costs = np.array([[draw(amount), draw(amount)] for _ in range(count)], float)
    for operator in draw(st.sets(operators)):
        costs[operator, draw(st.integers(0, 1))] = np.inf
    tensor = st.tuples(operators, st.sets(operators, max_size=3).map(tuple), st.tuples(amount, amount))
    return costs, [Tensor(*each) for each in draw(st.lists(tensor, max_size=8))]


def every_cost(costs, tensors):
    return [labels_cost(np.array(labels), costs, tensors) for labels in itertools.product((0, 1), repeat=len(costs))]


@LAW
@given(graphs())
def test_no_labels_are_cheaper(graph):
    assert labels_cost(cheapest_labels(*graph), *graph) == min(every_cost(*graph))


@LAW
@given(graphs(st.floats(0, 1e3)))
def test_costs_that_are_no_whole_numbers_are_rounded_very_little(graph):
    costs, tensors = graph
    best = min(every_cost(costs, tensors))
    finite = costs[np.isfinite(costs)].sum() + sum(sum(tensor.transposition) for tensor in tensors)
    assert labels_cost(cheapest_labels(costs, tensors), costs, tensors) <= best + 1e-7 * finite


@LAW
@given(graphs(), st.integers(-60, 60))
def test_the_unit_of_cost_does_not_matter(graph, exponent):
    costs, tensors = graph
    unit = 2.0**exponent
    scaled = [tensor._replace(transposition=tuple(unit * cost for cost in tensor.transposition)) for tensor in tensors]
    np.testing.assert_array_equal(cheapest_labels(costs * unit, scaled), cheapest_labels(costs, tensors))


@LAW
@given(graphs())
def test_labels_that_cost_the_same_are_zero(graph):
    costs, tensors = graph
    every = np.array(every_cost(costs, tensors))
    best = np.array(list(itertools.product((0, 1), repeat=len(costs))))[every == every.min()]
    np.testing.assert_array_equal(cheapest_labels(costs, tensors), best.min(axis=0))


def test_a_tensor_is_transposed_once_for_all_its_readers():
    costs = np.array([[0, np.inf], [3, 0], [3, 0], [3, 0]])
    tensor = Tensor(0, (1, 2, 3), (8, 8))
    labels = cheapest_labels(costs, [tensor])
    assert labels.tolist() == [0, 1, 1, 1]
    assert labels_cost(labels, costs, [tensor]) == 8
    assert transposed(labels, [tensor]) == [tensor]


def test_the_direction_of_a_transposition_counts():
    towards, back = Tensor(0, (1,), (5, 0)), Tensor(1, (2,), (0, 1))
    costs = np.array([[0, np.inf], [6, 0], [0, np.inf]])
    assert cheapest_labels(costs, [towards, back._replace(transposition=(9, 0))]).tolist() == [0, 1, 0]
    assert cheapest_labels(costs, [towards, back._replace(transposition=(0, 2))]).tolist() == [0, 0, 0]


def test_a_thousand_operators_in_a_row_change_layout_where_it_is_cheapest():
    count, cheapest = 1000, 617
    costs = np.zeros((count, 2))
    costs[0, 1] = costs[-1, 0] = np.inf
    tensors = [Tensor(place, (place + 1,), (2e-6 if place == cheapest else 3e-6,) * 2) for place in range(count - 1)]
    assert cheapest_labels(costs, tensors).tolist() == [int(place > cheapest) for place in range(count)]


@pytest.mark.parametrize(
    ("costs", "tensors"),
    [([[np.inf, np.inf]] * 3, []), ([[0, np.inf], [np.inf, 0]], [Tensor(0, (1,), (np.inf, np.inf))])],
)
def test_labels_that_cannot_be_are_an_error(costs, tensors):
    with pytest.raises(ValueError, match="no labels have a finite cost"):
        cheapest_labels(np.array(costs), tensors)


@pytest.mark.parametrize("wrong", [-1.0, float("nan")])
def test_costs_are_numbers_and_not_negative(wrong):
    with pytest.raises(ValueError, match=f"costs: {wrong} must be a number"):
        cheapest_labels(np.array([[0, 1]]), [Tensor(0, (0,), (wrong, 1.0))])


def test_no_operators_have_no_labels():
    assert cheapest_labels(np.zeros((0, 2)), []).tolist() == []
