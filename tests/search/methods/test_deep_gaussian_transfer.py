"""Deep Gaussian transfer measures what Algorithms 1 and 2 say, refuses to start from nothing, and profits from its history."""

import jax
import numpy as np
import pytest

from search.methods.deep_gaussian_transfer import deep_gaussian_transfer
from search.transfer import pooled
from surrogates import DeepGP, ExactGP
from tests.search.methods.landscape import layer, measured, watch
from tests.search.ridge import Ridge

KEY = jax.random.key(0)
SPACE = layer(64)
HISTORY = [measured(32), measured(16)]
SMALL = {"pool": 500, "tuning_set": 24, "deployed": 8, "patience": 20, "explored": 2000}
TINY = DeepGP(hidden=(), inducing=8, epochs=20, adapt_epochs=20, batch=64)


class Counting(Ridge):
    """Notes how many points it was fitted and adapted to."""

    calls = []  # noqa: RUF012

    def fit(self, x, y, *, key):
        self.calls.append(("fit", len(y)))
        return super().fit(x, y, key=key)

    def adapt(self, x, y, *, key):
        self.calls.append(("adapt", len(y)))
        return super().adapt(x, y, key=key)


def learned(history=HISTORY):
    pool = pooled(history, SPACE)
    return Ridge().fit(pool.x, pool.y, key=KEY)


def test_steps_are_those_of_the_algorithms():
    Counting.calls.clear()
    batches, _ = watch(deep_gaussian_transfer(SPACE, key=KEY, history=HISTORY, surrogate=Counting(), **SMALL), SPACE, 40)
    assert [len(batch) for batch in batches] == [24, 8, 8]
    assert Counting.calls == [("fit", 300), ("adapt", 24), ("adapt", 32)]


def test_tuning_set_is_the_top_of_the_pool_best_first():
    model = learned()
    options = {**SMALL, "pool": 10**6}  # all there are
    ((tuning_set,), _) = watch(deep_gaussian_transfer(SPACE, key=KEY, pretrained=model, **options), SPACE, 1)
    everything = SPACE.sample(KEY, SPACE.size)
    scores = np.sort(np.asarray(model.predict(SPACE.features(everything)).mean))[::-1]
    np.testing.assert_allclose(model.predict(SPACE.features(tuning_set)).mean, scores[:24], rtol=1e-5)


def test_model_that_is_ready_is_as_good_as_its_history():
    first, _ = watch(deep_gaussian_transfer(SPACE, key=KEY, history=HISTORY, surrogate=Ridge(), **SMALL), SPACE, 40)
    second, _ = watch(deep_gaussian_transfer(SPACE, key=KEY, pretrained=learned(), **SMALL), SPACE, 40)
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))


@pytest.fixture(scope="module")
def found():
    return watch(deep_gaussian_transfer(SPACE, key=KEY, history=HISTORY, surrogate=TINY, **SMALL), SPACE, 32)


def test_deep_gp_finds_better_than_chance(found):
    """A random configuration is at 20 GFLOPS, the best at 200."""
    _, (tuning_set, deployed) = found
    assert tuning_set.mean() > 40
    assert deployed.mean() > tuning_set.mean()


def test_deep_gp_proposes_the_same_again(found):
    again, _ = watch(deep_gaussian_transfer(SPACE, key=KEY, history=HISTORY, surrogate=TINY, **SMALL), SPACE, 32)
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(found[0]))


def test_deep_gp_bears_that_all_fail():
    search = deep_gaussian_transfer(SPACE, key=KEY, history=HISTORY, surrogate=TINY, **SMALL)
    batches, _ = watch(search, SPACE, 32, throughput=lambda space, knobs: np.zeros(len(knobs)))
    assert [len(batch) for batch in batches] == [24, 8]


@pytest.mark.parametrize("options", [{}, {"history": []}, {"history": ()}])
def test_nothing_to_learn_from_is_refused_at_once(options):
    with pytest.raises(ValueError, match="history: there is none to learn from; give other tasks' measurements, or a fitted"):
        deep_gaussian_transfer(SPACE, key=KEY, **options)


def test_model_that_knows_nothing_is_refused_at_once():
    with pytest.raises(ValueError, match="Ridge knows nothing yet"):
        deep_gaussian_transfer(SPACE, key=KEY, pretrained=Ridge())


def test_model_that_cannot_adapt_is_refused_at_once():
    with pytest.raises(ValueError, match="pretrained: ExactGP cannot adapt; give a `DeepGP`"):
        deep_gaussian_transfer(SPACE, key=KEY, pretrained=ExactGP())


def test_model_that_is_ready_and_a_history_are_refused_together():
    with pytest.raises(ValueError, match="pretrained: it would take the place of the history; leave out one"):
        deep_gaussian_transfer(SPACE, key=KEY, history=HISTORY, pretrained=learned())


@pytest.mark.parametrize("name", ["pool", "tuning_set", "deployed", "patience", "explored"])
def test_numbers_out_of_range_are_refused_at_once(name):
    with pytest.raises(ValueError, match=f"{name}: 0 must be at least"):
        deep_gaussian_transfer(SPACE, key=KEY, history=HISTORY, **{name: 0})
