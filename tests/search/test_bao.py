"""The laws of BAO: each step is the best unmeasured configuration of a neighbourhood whose radius follows Equation (1)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, run
from search.bao import bao, change
from surrogates.base import Prediction, Surrogate

KEY = jax.random.key(0)
GRID = KnobSpace([Option(name, tuple(range(20))) for name in "abc"], encoding="raw")
FIRST = GRID.sample(KEY, 12)


class Line(eqx.Module):
    """A scorer: the features' weighted sum."""

    weight: Any

    def __call__(self, x):
        return x @ self.weight


class Prejudice(Surrogate):
    """Learns nothing: what it thinks of a point is known beforehand."""

    weight: Any

    def fit(self, x, y, *, key):
        assert len(x) == len(y)
        return self

    def predict(self, x):
        return Prediction(self.scorer()(x), jnp.zeros(len(x)))

    def scorer(self):
        return Line(jnp.asarray(self.weight, jnp.float32))


UPWARDS = Prejudice((1.0, 0.1, 0.01))
INDIFFERENT = Prejudice((0.0, 0.0, 0.0))


def distances(knobs: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.sqrt(((knobs - centre) ** 2).sum(axis=1))


def walk(space, first, throughput, answers, **options) -> list[np.ndarray]:
    """The steps of a walk that is given these answers, one list of throughputs for each step."""
    search = bao(space, first, np.array(throughput, float), **{"key": KEY, "surrogate": UPWARDS, **options})
    steps = [next(search)]
    for answer in answers:
        steps.append(search.send(np.array(answer, float)))
    return steps


@pytest.mark.parametrize(
    ("latest", "previous", "expected"), [(4, 5, 0.25), (5, 4, 0.2), (5, 5, 0), (0, 0, 0), (0, 5, np.inf), (5, 0, 1)]
)
def test_change_is_equation_1(latest, previous, expected):
    assert change(latest, previous) == pytest.approx(expected)


@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_change_has_no_sign_and_no_unit(latest, previous):
    assert change(latest, previous) >= 0
    assert change(8 * latest, 8 * previous) == change(latest, previous)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([0.0, 1.0, 1.02, 2.0]), min_size=1, max_size=6), st.integers(0, 99))
def test_each_step_is_the_best_new_configuration_of_its_neighbourhood(answers, seed):
    """Lines 3 to 11 by brute force: the radius grows when the last two steps differ by less than 5 %."""
    everything = GRID.from_index(range(GRID.product))
    first = GRID.sample(jax.random.key(seed), 12)
    throughput = np.linspace(1, 2, 12)
    steps = walk(GRID, first, throughput, [[answer] for answer in answers], key=jax.random.key(seed))
    measured, centre, deployed = first, first[-1], [2.0]
    for step, answer in zip(steps, [*answers, None], strict=True):
        calm = len(deployed) > 1 and change(*deployed[:-3:-1]) < 0.05
        near = everything[distances(everything, centre) <= (4.5 if calm else 3.0)]
        near = near[~(near[:, None] == measured).all(axis=-1).any(axis=1)]
        score = near @ np.array(UPWARDS.weight)
        assert step.shape == (1, 3)
        np.testing.assert_array_equal(step[0], near[np.argmax(score)])
        measured, centre, deployed = np.concatenate([measured, step]), step[0], [*deployed, answer]


def test_first_step_is_near_the_best_of_the_first_set():
    for best in range(3):
        (step,) = walk(GRID, FIRST, np.arange(12) == best, [])
        assert distances(step, FIRST[best])[0] <= 3


def test_scores_are_the_sum_of_the_members():
    """Algorithm 3, line 6: two members of opposite opinions leave nothing to choose by."""

    class Contrary(Prejudice):
        """Every other member thinks the opposite."""

        def fit(self, x, y, *, key):
            told.append(len(x))
            return Prejudice(tuple((-1) ** len(told) * weight for weight in self.weight))

    told = []
    steps = {tuple(walk(GRID, FIRST, np.arange(12), [], surrogate=Contrary(UPWARDS.weight), key=key)[0][0]) for key in keys(12)}
    assert len(steps) > 6
    assert told == [12] * 24


def keys(count: int) -> list:
    return list(jax.random.split(KEY, count))


def test_ties_are_broken_at_random():
    steps = {tuple(walk(GRID, FIRST, np.arange(12), [], surrogate=INDIFFERENT, key=key)[0][0]) for key in keys(20)}
    assert len(steps) > 12


def test_a_batch_goes_on_from_its_best():
    first, second = walk(GRID, FIRST, np.arange(12), [[0, 9, 0, 1]], batch=4)
    assert len(first) == len(second) == 4
    assert (distances(first, FIRST[-1]) <= 3).all()
    assert (distances(second, first[1]) <= 3).all()
    assert len(np.unique(np.concatenate([FIRST, first, second]), axis=0)) == 20


def test_limit_keeps_steps_near():
    steps = walk(GRID, FIRST, np.arange(12), [[1], [2], [3]], limit=5)
    for step, centre in zip(steps[1:], steps, strict=False):
        assert distances(step, centre[0])[0] <= 3


def test_a_neighbourhood_that_is_used_up_is_left():
    """Two islands further apart than any radius: the walk ends only when both have been measured."""
    islands = GRID.confine(np.concatenate([GRID.from_index(range(4)), [[19, 19, 19], [19, 19, 18]]]))
    steps = walk(islands, GRID.from_index([0, 1]), [1, 2], [[3], [4], [5]])
    assert sorted(GRID.to_index(np.concatenate(steps))) == [2, 3, 18 * 400 + 19 * 20 + 19, 7999]


@pytest.mark.parametrize("value", [0.0, 5.0], ids=["all failed", "all alike"])
@pytest.mark.parametrize("batch", [1, 3])
def test_everything_is_measured_once_and_then_it_ends(value, batch):
    space = KnobSpace([Option("a", (1, 2, 3)), Option("b", (1, 2, 3, 4))], lambda choice: (choice["a"] + choice["b"]) % 4 != 0)
    first = space.sample(KEY, 2)
    visited = space.to_index(first)

    def measure(knobs):
        visited.extend(space.to_index(knobs))
        return ((row, value) for row in range(len(knobs)))

    search = bao(space, first, np.full(2, value), key=KEY, surrogate=Prejudice((1, 1)), batch=batch)
    assert run(search, measure, trials=100).stopped == "exhausted"
    assert sorted(visited) == np.flatnonzero(space.valid(space.from_index(range(12)))).tolist()


def test_a_space_of_one_configuration_ends_at_once():
    space = KnobSpace([Option("only", (7,))])
    assert list(bao(space, space.from_index([0]), np.ones(1), key=KEY, surrogate=Prejudice((1.0,)))) == []


def test_it_climbs_with_the_papers_models():
    pytest.importorskip("xgboost", reason="needs the extra xgboost")
    from surrogates.xgboost import XGBoost

    def height(knobs):
        return 100 - ((knobs - 13) ** 2).sum(axis=1) / 6.0

    search = bao(GRID, FIRST, height(FIRST), key=KEY, surrogate=XGBoost(loss="reg"), batch=4)
    step, best = next(search), height(FIRST).max()
    for _ in range(6):
        best = max(best, height(step).max())
        step = search.send(height(step))
    assert best > 98.5 > height(FIRST).max()
