"""The genetic algorithm breeds its children from fit parents, one point apart, and finds what chance does not."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option
from search.methods.genetic_algorithm import genetic_algorithm
from search.methods.random import random_search
from tests.search.methods.landscape import watch

KEY = jax.random.key(0)
DIGITS = KnobSpace([Option(f"digit{place}", tuple(range(50))) for place in range(6)])
"""So many configurations that no child is another's twin by chance."""


def generations(throughput, count=2, space=DIGITS, key=KEY, **options):
    """The first generations, given a throughput by formula."""
    return watch(genetic_algorithm(space, key=key, **options), space, count * options.get("population", 100), throughput)[0]


def cuts(child, first, second):
    """Where one could cut two parents to get this child."""
    return [point for point in range(len(child)) if [*first[:point], *second[point:]] == list(child)]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_children_are_two_parents_cut_at_one_point(seed):
    parents, children = generations(
        lambda space, knobs: 1.0 + knobs[:, 0], key=jax.random.key(seed), population=8, elite=0, mutation=0.0
    )
    made = [any(cuts(child, a, b) for a in parents for b in parents) for child in children.tolist()]
    # Of parents that are cut at their ends, or drawn twice alike, come children that must mutate.
    moved = [min((np.array(child) != parent).sum() for parent in [*parents, *children[made]]) for child in children.tolist()]
    assert all(is_cut or moves <= 3 for is_cut, moves in zip(made, moved, strict=True))
    assert any(made)


def test_failures_have_no_children():
    parents, children = generations(lambda space, knobs: np.where(knobs[:, 5] < 10, 1.0, 0.0), elite=0, mutation=0.0)
    assert (parents[:, 5] >= 10).sum() > 50
    assert (children[:, 5] < 10).mean() > 0.85  # the others had to mutate


def test_parents_are_drawn_in_proportion_to_their_throughput():
    """One of two halves is three times as fast: three quarters of all inherited knobs come from it."""
    parents, children = generations(
        lambda space, knobs: np.where(knobs[:, 0] < 25, 3.0, 1.0), population=2000, elite=0, mutation=0.0
    )
    fast = (parents[:, 0] < 25).mean()
    assert (children[:, 0] < 25).mean() == pytest.approx(3 * fast / (3 * fast + 1 - fast), abs=0.06)


def test_mutation_draws_any_option():
    parents, children = generations(lambda space, knobs: knobs[:, 0] == knobs[0, 0], population=500, elite=0, mutation=1.0)
    assert all(len(np.unique(column)) == 50 for column in children.T)
    assert len(parents) == len(children) == 500


@pytest.mark.parametrize("elite", [0, 1])
def test_the_elite_stays(elite):
    """All but one configuration fail: only as a parent for ever can it be seen through four generations of mutation."""
    search = genetic_algorithm(DIGITS, key=KEY, elite=elite, mutation=0.5)
    generation = next(search)
    only = generation[0]
    generation = search.send(1.0 * (np.arange(len(generation)) == 0))
    for _ in range(4):
        generation = search.send(np.zeros(len(generation)))
    assert ((generation == only).mean() > 0.2) == bool(elite)


def test_better_than_chance():
    def peak(space, knobs):
        return np.exp(-np.abs(knobs - 20).mean(axis=1) / 4)

    for seed in range(3):
        key = jax.random.key(seed)
        told = watch(genetic_algorithm(DIGITS, key=key, population=40), DIGITS, 400, peak)[1]
        chance = watch(random_search(DIGITS, key=key), DIGITS, 400, peak)[1]
        assert np.concatenate(told).max() > np.concatenate(chance).max()
        assert told[-1].mean() > 3 * told[0].mean()


def test_a_population_larger_than_the_space_is_the_space():
    space = KnobSpace([Option("a", (1, 2, 3))])
    batches, _ = watch(genetic_algorithm(space, key=KEY), space, 100, lambda space, knobs: np.ones(len(knobs)))
    assert [sorted(batch[:, 0]) for batch in batches] == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"population": 0}, "population: 0"), ({"elite": -1}, "elite: -1"), ({"mutation": 1.5}, r"mutation: 1\.5")],
)
def test_refusals_name_the_argument(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        genetic_algorithm(DIGITS, key=KEY, **options)
