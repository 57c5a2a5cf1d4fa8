"""The operators keep to the options there are, to the parents, and to the frequencies."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, Split
from search.genetics import breed, option_frequencies

SPACE = KnobSpace([Split("tile", 12, 3), Option("unroll", (0, 512, 1500)), Option("only", (1,))])
KEY = jax.random.key(0)
GOOD = SPACE.sample(jax.random.key(1), 6)
EVEN = option_frequencies(SPACE, GOOD[:0], np.empty(0))


@given(st.lists(st.sampled_from([0.0, 0.25, 1.0]), max_size=6), st.floats(0, 1))
def test_frequencies_are_probabilities_of_the_options_there_are(weight, uniform):
    table = option_frequencies(SPACE, GOOD[: len(weight)], np.array(weight), uniform=uniform)
    np.testing.assert_allclose(table.sum(axis=1), 1)
    assert (table >= 0).all()
    assert not table[np.arange(table.shape[1]) >= np.array(SPACE.shape)[:, None]].any()


def test_frequencies_count_what_is_good():
    table = option_frequencies(SPACE, np.array([[4, 0, 0], [4, 2, 0]]), np.array([3.0, 1.0]), uniform=0.4)
    even = 0.4 / np.array(SPACE.shape)
    assert table[0, 4] == pytest.approx(0.6 + even[0])
    assert table[1, :3] == pytest.approx([0.45 + even[1], even[1], 0.15 + even[1]])


@settings(deadline=None)
@given(st.integers(0, 99), st.floats(0, 1), st.lists(st.sampled_from([0.0, 1.0, 5.0]), min_size=6, max_size=6))
def test_children_are_configurations_of_the_space(seed, mutation, fitness):
    children = breed(GOOD, np.array(fitness), EVEN, 40, key=jax.random.key(seed), mutation=mutation)
    assert children.shape == (40, 3)
    SPACE.to_index(children)  # refuses options that there are not


def test_children_without_mutation_have_their_parents_options():
    children = breed(GOOD, np.ones(6), EVEN, 200, key=KEY, mutation=0.0)
    for knob in range(3):
        assert set(children[:, knob]) == set(GOOD[:, knob])


def test_unfit_have_no_children():
    children = breed(GOOD, np.array([0, 0, 1.0, 0, 0, 0]), EVEN, 50, key=KEY, mutation=0.0)
    np.testing.assert_array_equal(children, np.tile(GOOD[2], (50, 1)))


def test_children_take_the_more_frequent_option():
    parents = np.array([[3, 1, 0], [5, 2, 0]])
    table = option_frequencies(SPACE, np.array([[3, 2, 0]]), np.ones(1), uniform=0.0)
    children = breed(parents, np.ones(2), table, 400, key=KEY, mutation=0.0)
    mixed = children[(children != parents[0]).any(axis=1) & (children != parents[1]).any(axis=1)]
    np.testing.assert_array_equal(np.unique(mixed, axis=0), [[3, 2, 0]])


def test_mutants_follow_the_frequencies():
    table = option_frequencies(SPACE, np.array([[3, 1, 0], [3, 1, 0], [5, 1, 0]]), np.ones(3), uniform=0.0)
    mutants = breed(GOOD, np.ones(6), table, 6000, key=KEY, mutation=1.0)
    assert set(mutants[:, 0]) == {3, 5}
    assert np.mean(mutants[:, 0] == 3) == pytest.approx(2 / 3, abs=0.03)


def test_same_key_breeds_the_same():
    first, second = (breed(GOOD, np.ones(6), EVEN, 20, key=KEY) for _ in range(2))
    np.testing.assert_array_equal(first, second)
