"""The laws of the allocation: the budget is kept, nobody is left out, and measurements go where they shorten the network."""

import math
from itertools import accumulate

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.allocation import Claimant, Outcome, allocate

LAW = settings(deadline=None)
KEY = jax.random.key(0)


def deal(tasks, times, trials, *, capacity=math.inf, **options):
    """Run an allocation on tasks whose best seconds after each round are given, the last one lasting.

    `capacity` is how many measurements a task has. Returns the rounds `(task, asked, spent)`.
    """
    rounds = []

    def spend(number, asked):
        mine = [spent for each, _, spent in rounds if each == number]
        here = min(asked, capacity - sum(mine))
        rounds.append((number, asked, here))
        return Outcome(here, times[number][min(len(mine), len(times[number]) - 1)], sum(mine) + here == capacity)

    assert allocate(tasks, trials, spend, **({"key": KEY} | options)) == sum(spent for *_, spent in rounds)
    return rounds


def order(*arguments, **options):
    return [number for number, *_ in deal(*arguments, **options)]


seconds = st.floats(1e-6, 1.0)
curves = st.lists(seconds | st.just(math.inf), min_size=1, max_size=6).map(lambda curve: list(accumulate(curve, min)))
claimants = st.builds(
    Claimant,
    st.integers(0, 5),
    seconds | st.just(math.inf),
    st.none() | st.floats(1e3, 1e9),
    st.none() | st.sampled_from(["3x3", "1x1"]),
)
networks = st.lists(st.tuples(claimants, curves), min_size=1, max_size=6).map(lambda pairs: tuple(zip(*pairs, strict=True)))


@LAW
@given(networks, st.integers(1, 200), st.integers(1, 12), st.integers(1, 40))
def test_budget_is_spent_on_open_tasks_and_no_more(network, trials, size, capacity):
    tasks, times = network
    rounds = deal(tasks, times, trials, capacity=capacity, size=size)
    wanted = [number for number, task in enumerate(tasks) if task.weight > 0]
    assert sum(spent for *_, spent in rounds) == min(trials, capacity * len(wanted))
    assert all(1 <= asked <= size for _, asked, _ in rounds)
    assert {number for number, *_ in rounds} <= set(wanted)
    for number in wanted:  # none goes on after its last round
        mine = [spent for each, _, spent in rounds if each == number]
        assert sum(mine[:-1]) < capacity


@LAW
@given(networks, st.integers(1, 200), st.integers(1, 12))
def test_everyone_has_a_first_round_before_anyone_has_a_second(network, trials, size):
    tasks, times = network
    numbers = order(tasks, times, trials, size=size)
    wanted = [number for number, task in enumerate(tasks) if task.weight > 0]
    begin = numbers[: len(wanted)]
    assert len(set(begin)) == len(begin) == min(trials, len(wanted))
    cost = [tasks[number].weight * tasks[number].seconds for number in begin]
    assert cost == sorted(cost, reverse=True)


@LAW
@given(networks, st.integers(1, 100), st.sampled_from([2.0**-20, 0.25, 8.0, 2.0**20]), st.floats(0, 1))
def test_units_of_time_do_not_matter(network, trials, unit, epsilon):
    tasks, times = network
    scaled = [Claimant(task.weight, task.seconds * unit, task.flop, task.kind) for task in tasks]
    slower = [[each * unit for each in curve] for curve in times]
    assert order(tasks, times, trials, epsilon=epsilon) == order(scaled, slower, trials, epsilon=epsilon)


@LAW
@given(st.integers(2, 6), st.integers(1, 100), st.integers(0, 999))
def test_order_of_the_tasks_does_not_matter(n, trials, seed):
    random = np.random.default_rng(seed)  # no two are alike, so that there are no ties
    weights, seconds, flop = random.uniform(1, 5, n), random.random(n), random.uniform(1e3, 1e9, n)
    tasks = [Claimant(weights[number], seconds[number], flop[number], "3x3" if number % 2 else "1x1") for number in range(n)]
    times = np.minimum.accumulate(random.random((n, 12)), axis=1).tolist()
    places = random.permutation(n).tolist()
    shuffled = order([tasks[place] for place in places], [times[place] for place in places], trials, size=1, epsilon=0)
    assert [places[number] for number in shuffled] == order(tasks, times, trials, size=1, epsilon=0)


def test_same_key_same_rounds_and_another_key_others():
    tasks, times = [Claimant(1, 1.0)] * 5, [[1.0]] * 5
    once, again = (order(tasks, times, 800, epsilon=1.0) for _ in range(2))
    assert once == again
    assert order(tasks, times, 800, epsilon=1.0, key=jax.random.key(1)) != once


def test_rounds_go_where_most_is_to_be_gained():
    """By weight and by seconds; what stands still gets less and less."""
    tasks = [Claimant(1, 1.0), Claimant(3, 1.0), Claimant(1, 4.0)]
    numbers = order(tasks, [[1.0], [1.0], [4.0]], 8 * 80, epsilon=0)
    counts = [numbers.count(number) for number in range(3)]
    assert counts == [10, 30, 40]  # -w g / t is kept level


def test_what_still_improves_gets_more_than_what_stands_still():
    improving = [1.0 - 0.02 * step for step in range(40)]
    numbers = order([Claimant(1, 1.0)] * 2, [improving, [1.0]], 8 * 40, epsilon=0, alpha=0.9)
    assert numbers.count(0) > 2 * numbers.count(1)


SLOW, FAST = Claimant(1, 1.0, 1e9, "3x3"), Claimant(1, 0.1, 1e9, "3x3")


def test_a_task_is_expected_to_come_near_similar_ones():
    """Ten times slower than a similar one: expected to gain at least g - 2 g / 10 at once, more than g / t."""
    other = Claimant(1, 3.0, 1e9, "1x1")
    slow = [1.0 - 1e-6 * step for step in range(100)]  # it never stands still
    numbers = order([SLOW, FAST, other], [slow, [0.1], [3.0]], 8 * 20, epsilon=0)
    alone = order([Claimant(1, 1.0), FAST, other], [slow, [0.1], [3.0]], 8 * 20, epsilon=0)
    assert numbers.count(0) > 2 * alone.count(0)


def test_similar_tasks_promise_nothing_to_one_that_stands_still():
    other = Claimant(1, 3.0, 1e9, "1x1")
    numbers = order([SLOW, FAST, other], [[1.0], [0.1], [3.0]], 8 * 40, epsilon=0)
    alone = order([Claimant(1, 1.0), FAST, other], [[1.0], [0.1], [3.0]], 8 * 40, epsilon=0)
    assert numbers.count(0) <= alone.count(0) + 4


def test_what_nothing_works_for_does_not_take_all():
    numbers = order([Claimant(1), Claimant(1, 1.0), Claimant(1, 1.0)], [[math.inf], [1.0], [1.0]], 8 * 60, epsilon=0)
    assert [numbers.count(number) for number in range(3)] == [20, 20, 20]


def test_a_small_budget_has_small_rounds():
    assert [asked for _, asked, _ in deal([Claimant(1, 1.0)] * 4, [[1.0]] * 4, 14)] == [3, 3, 3, 3, 2]
    assert order([Claimant(1, 1.0), Claimant(1, 3.0), Claimant(1, 2.0)], [[1.0]] * 3, 2) == [1, 2]


@pytest.mark.parametrize(
    "wrong", [{"trials": 0}, {"size": 0}, {"window": 0}, {"beta": 0}, {"alpha": 1.1}, {"epsilon": -0.1}], ids=str
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.*: .* must be"):
        allocate([Claimant(1)], **({"trials": 8, "spend": None, "key": KEY} | wrong))
