"""The framework of Sun et al. (DATE 2021): a set that represents the space, then one neighbour after the other."""

import jax
import numpy as np
import pytest

from search.methods.bted_bao import bted_bao
from search.ted import bted
from tests.search.methods.landscape import gflops, layer, watch
from tests.search.ridge import Ridge

KEY = jax.random.key(0)
SPACE = layer(64)
SMALL = {"first": 16, "pool": 50, "batches": 4}


def search(**options):
    return bted_bao(SPACE, key=KEY, **{"surrogate": Ridge(), **SMALL, **options})


def test_first_set_is_bteds():
    (first,) = watch(search(), SPACE, 1)[0]
    np.testing.assert_array_equal(first, bted(SPACE, key=jax.random.split(KEY)[0], count=16, pool=50, batches=4))


def test_then_each_step_is_near_the_last():
    (first, *steps), (throughput, *_) = watch(search(), SPACE, 22)
    assert [len(step) for step in steps] == [1] * 6
    for step, centre in zip(steps, [first[[np.argmax(throughput)]], *steps], strict=False):
        assert 0 < np.linalg.norm(step - centre) <= 4.5


@pytest.mark.parametrize(("options", "reach"), [({"radius": 2.0}, 3.0), ({"tau": 1.0}, 3.0), ({"eta": 0.0}, 3.0)])
def test_the_walk_has_the_given_settings(options, reach):
    (first, *steps), (throughput, *_) = watch(search(**options), SPACE, 22)
    for step, centre in zip(steps, [first[[np.argmax(throughput)]], *steps], strict=False):
        assert np.linalg.norm(step - centre) <= reach


def test_steps_can_be_batches():
    _, second, third = watch(search(batch=8), SPACE, 30)[0]
    assert len(second) == len(third) == 8


def test_it_finds_better_than_its_first_set():
    pytest.importorskip("xgboost", reason="needs the extra xgboost")
    _, told = watch(search(surrogate=None, batch=8), SPACE, 80)
    assert np.concatenate(told).max() > 1.1 * told[0].max()
    assert np.concatenate(told[4:]).mean() > 2 * gflops(SPACE, SPACE.sample(KEY, 500)).mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 1}, "first: 1 must be at least 2"),
        ({"batches": 0}, "batches: 0 must be at least 1"),
        ({"members": 1}, "members: 1 must be at least 2"),
        ({"batch": 0}, "batch: 0 must be at least 1"),
        ({"limit": 0}, "limit: 0 must be at least 1"),
        ({"radius": -1.0}, r"radius: -1\.0 must not be negative"),
        ({"tau": float("nan")}, "tau: nan must not be negative"),
        ({"eta": -0.1}, r"eta: -0\.1 must not be negative"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_measured(options, message):
    with pytest.raises(ValueError, match=message):
        search(**options)
