"""The laws of the lattice ball: it is what brute force finds, and a limited one is a uniform draw from it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.neighbourhood import lattice_ball

RADII = st.integers(0, 40).map(math.sqrt) | st.integers(0, 26).map(lambda quarters: quarters / 4)


@st.composite
def boxes(draw, *, axes: int = 4, reach: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The offsets a box leaves to its centre: lower <= 0 <= upper, in one to four axes."""
    sides = draw(st.lists(st.tuples(st.integers(-reach, 0), st.integers(0, reach)), min_size=1, max_size=axes))
    return np.array([low for low, _ in sides]), np.array([high for _, high in sides])


def brute_force(lower: np.ndarray, upper: np.ndarray, radius: float) -> list[tuple[int, ...]]:
    """Every point of the box, kept if it is near: what the ball is by definition."""
    axes = [range(low, high + 1) for low, high in zip(lower, upper, strict=True)]
    # the tolerance puts points at a distance of exactly sqrt(n) inside, whatever n's square root rounds to
    return [o for o in itertools.product(*axes) if any(o) and sum(x * x for x in o) <= radius * radius + 1e-9]


@settings(deadline=None)
@given(boxes(), RADII)
def test_ball_is_what_brute_force_finds_in_lexicographic_order(box, radius):
    lower, upper = box
    assert list(map(tuple, lattice_ball(lower, upper, radius).tolist())) == brute_force(lower, upper, radius)


@settings(deadline=None)
@given(boxes(), RADII, st.integers(0, 60), st.integers(0, 1000))
def test_limit_draws_distinct_points_of_the_ball(box, radius, limit, seed):
    lower, upper = box
    ball = set(brute_force(lower, upper, radius))
    drawn = lattice_ball(lower, upper, radius, limit=limit, generator=np.random.default_rng(seed))
    assert len(drawn) == min(limit, len(ball))
    points = list(map(tuple, drawn.tolist()))
    assert points == sorted(set(points))
    assert set(points) <= ball


def test_limit_draws_uniformly():
    lower, upper = np.array([-1, -2, 0]), np.array([2, 1, 2])
    radius, limit, repeats = math.sqrt(5), 6, 4000
    ball = brute_force(lower, upper, radius)
    generator = np.random.default_rng(0)
    drawn = np.concatenate([lattice_ball(lower, upper, radius, limit=limit, generator=generator) for _ in range(repeats)])
    points, counts = np.unique(drawn, axis=0, return_counts=True)
    assert list(map(tuple, points.tolist())) == ball
    expected = repeats * limit / len(ball)
    # drawing without replacement narrows the spread of the counts by (N - n) / (N - 1)
    statistic = ((counts - expected) ** 2 / expected).sum() * (len(ball) - 1) / (len(ball) - limit)
    freedom = len(ball) - 1
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)


def test_balls_too_large_to_list_are_drawn_from_uniformly():
    """A ball of about 4e16 points in eight dimensions, whose mean squared norm is k / (k + 2) of the squared radius."""
    reach, radius, limit = np.full(8, 200), 100.0, 4000
    drawn = lattice_ball(-reach, reach, radius, limit=limit, generator=np.random.default_rng(0))
    norms = (drawn**2).sum(axis=1)
    assert len(np.unique(drawn, axis=0)) == limit
    assert norms.max() <= radius**2
    assert norms.mean() / radius**2 == pytest.approx(8 / 10, abs=0.01)
    assert np.abs(drawn.mean(axis=0)).max() < 4 * math.sqrt(norms.mean() / 8 / limit)


def test_same_generator_draws_the_same():
    reach = np.full(5, 4)
    first, second = (lattice_ball(-reach, reach, 3.0, limit=20, generator=np.random.default_rng(7)) for _ in range(2))
    other = lattice_ball(-reach, reach, 3.0, limit=20, generator=np.random.default_rng(8))
    assert (first == second).all()
    assert (first != other).any()


def test_negative_radius_is_refused():
    with pytest.raises(ValueError, match=r"radius: -1\.0"):
        lattice_ball(np.array([-1]), np.array([1]), -1.0)
