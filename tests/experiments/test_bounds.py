"""Work and peaks: counts grow as the shapes do, and the least time is that of the kinds of work together."""

import pytest

from experiments.bounds import Peaks, Shape, Work

SMALL, PEAKS = Shape(20, (10, 14), 64, full=False), Peaks(flop=100.0, exponentials=10.0, bytes=1.0)


def test_counts_by_hand():
    work = Shape(3, (), 4, full=True).means()
    assert work == Work(2 * 4 * 3 + 2 * 4 * 1 + 2 * 3 * 1, 4, 4 * (3 + 1))


@pytest.mark.parametrize("count", [Shape.means, Shape.prediction, Shape.sample, lambda shape: shape.step(256)])
def test_more_inducing_points_are_more_work(count):
    large = Shape(20, (10, 14), 128, full=False)
    assert count(large).flop > 1.9 * count(SMALL).flop
    assert count(large).exponentials >= 2 * count(SMALL).exponentials


def test_each_way_to_predict_takes_more_than_the_one_before():
    full = Shape(20, (10, 14), 64, full=True)
    ways = [SMALL.means(), SMALL.prediction(), SMALL.sample(), full.sample()]
    assert [way.flop for way in ways] == sorted({way.flop for way in ways})


def test_least_time_is_of_all_kinds_of_work_and_the_longest_binds():
    work = Work(flop=100.0, exponentials=30.0) + Work(bytes=2.0) * 0.5
    assert PEAKS.seconds(work) == pytest.approx(1.0 + 3.0 + 1.0)
    assert PEAKS.bound_by(work) == "exponentials"
