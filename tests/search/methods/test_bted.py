"""BTED is AutoTVM's tuner from a first plan that represents the space."""

import jax
import numpy as np
import pytest

from search.methods.autotvm import autotvm
from search.methods.bted import bted_search
from search.ted import bted
from tests.search.methods.landscape import layer, measured, watch
from tests.search.ridge import Ridge

KEY = jax.random.key(0)
SPACE = layer(64)
SMALL = {"plan": 16, "pool": 50, "batches": 4}


def spread(space, knobs):
    """The mean distance of a configuration's features to the nearest other's."""
    features = np.asarray(space.features(knobs))
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1)
    return (distance + 1e9 * np.eye(len(knobs))).min(axis=1).mean()


@pytest.mark.parametrize("history", [[], [measured(32)]], ids=["no history", "history"])
def test_first_plan_is_bteds_whatever_history_says(history):
    (first,) = watch(bted_search(SPACE, key=KEY, surrogate=Ridge(), history=history, **SMALL), SPACE, 1)[0]
    chosen = bted(SPACE, key=jax.random.split(KEY)[0], count=16, pool=50, batches=4)
    np.testing.assert_array_equal(first, chosen)
    assert spread(SPACE, first) > 1.2 * spread(SPACE, SPACE.sample(KEY, 16))


def test_the_rest_is_autotvms():
    options = {"surrogate": Ridge(), "steps": 20, "chains": 32}
    ours = watch(bted_search(SPACE, key=KEY, **SMALL, **options), SPACE, 48)[0]
    rest = watch(autotvm(SPACE, key=jax.random.split(KEY)[1], first=ours[0], plan=16, **options), SPACE, 48)[0]
    assert len(ours) == len(rest) == 3
    np.testing.assert_array_equal(np.concatenate(ours), np.concatenate(rest))


def test_a_plan_larger_than_the_pools_is_refused():
    with pytest.raises(ValueError, match=r"count: 80 must be between 1 and the size of a pool, 50"):
        bted_search(SPACE, key=KEY, surrogate=Ridge(), plan=80, pool=50)


def test_the_first_plan_is_not_given():
    with pytest.raises(ValueError, match="first: BTED chooses the first plan"):
        bted_search(SPACE, key=KEY, surrogate=Ridge(), first=SPACE.sample(KEY, 4))


def test_what_autotvm_refuses_is_refused_before_a_first_plan():
    with pytest.raises(ValueError, match=r"epsilon: 2\.0 must lie in 0 \.\. 1"):
        bted_search(SPACE, key=KEY, surrogate=Ridge(), epsilon=2.0)
