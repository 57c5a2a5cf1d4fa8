"""AutoTVM's tuner measures what its model scores highest and a little chance, and lets other tasks speak until it knows."""

import equinox as eqx
import jax
import numpy as np
import pytest

from search import KnobSpace, Option, Source
from search.methods import random
from search.methods.autotvm import autotvm
from tests.search.methods.landscape import layer, measured, watch
from tests.search.ridge import Ridge

KEY = jax.random.key(0)
SPACE = layer(64)
SMALL = {"surrogate": Ridge(), "steps": 40, "chains": 64}


class Diary(Ridge):
    """Writes down what it is asked to learn."""

    entries: tuple = ()

    def fit(self, x, y, *, key):
        self.entries[0].append(("fit", np.asarray(x), np.asarray(y)))
        return super().fit(x, y, key=key)

    def adapt(self, x, y, *, key):
        self.entries[0].append(("adapt", np.asarray(x), np.asarray(y)))
        return super().adapt(x, y, key=key)


class FirstFeature(eqx.Module):
    """A scorer."""

    def __call__(self, x):
        return x[:, 0]


class Stubborn(Ridge):
    """Likes large first features, whatever is measured."""

    def scorer(self):
        return FirstFeature()


def search(space=SPACE, **options):
    return autotvm(space, key=KEY, **{**SMALL, **options})


def diary(**options):
    entries: list = []
    batches, told = watch(search(surrogate=Diary(entries=(entries,)), **options), SPACE, 130)
    return entries, batches, told


def test_a_plan_is_the_best_of_the_model_and_three_of_chance():
    """The space is small enough for annealing to be exact: of what is left, 61 have the largest first feature."""
    first, second, third = watch(search(surrogate=Stubborn()), SPACE, 150)[0]
    everything = SPACE.sample(KEY, SPACE.size)
    for done, plan in ((first, second), (np.concatenate([first, second]), third)):
        taken = set(SPACE.to_index(done))
        left = np.array([row for row in everything if SPACE.to_index(row) not in taken])
        scores = -np.sort(-SPACE.features(left)[:, 0])
        np.testing.assert_array_equal(-np.sort(-SPACE.features(plan[:61])[:, 0]), scores[:61])
        assert len(plan) == 64
        assert SPACE.features(plan[61:])[:, 0].max() < scores[60]


def test_first_plan_is_random_or_given():
    (drawn,) = watch(search(), SPACE, 1)[0]
    assert drawn.shape == (64, 3)
    given = SPACE.sample(jax.random.key(5), 10)
    first, second = watch(search(first=given), SPACE, 11)[0]
    np.testing.assert_array_equal(first, given)
    assert len(second) == 64


def test_model_learns_everything_as_a_share_of_the_best():
    entries, batches, told = diary()
    assert [verb for verb, *_ in entries] == ["fit", "fit"]
    (_, x, y), (_, _, later) = entries
    np.testing.assert_array_equal(x, SPACE.features(batches[0]))
    np.testing.assert_allclose(y, told[0] / told[0].max())
    np.testing.assert_allclose(later, np.concatenate(told[:2]) / np.concatenate(told[:2]).max())


def test_history_is_pooled_then_adapted_and_chooses_the_first_plan():
    history = [measured(32), measured(16, 80)]
    entries, batches, told = diary(history=history)
    assert [entry[0] for entry in entries] == ["fit", "adapt", "adapt"]
    assert len(entries[0][1]) == 230
    assert entries[0][2][:150].max() == entries[0][2][150:].max() == 1
    (random_plan,), (chance,) = watch(search(), SPACE, 1)
    assert told[0][:61].mean() > 2 * chance.mean()
    assert len(batches[0]) == len(random_plan) == 64


def test_sources_of_other_features_or_too_short_are_left_out():
    other = KnobSpace([Option("a", (1, 2, 3, 4))])
    raw = KnobSpace(SPACE.knobs, encoding="raw")
    strangers = [
        Source("other knobs", other, other.from_index(range(4)), np.ones(4)),
        Source("raw features", raw, raw.from_index(range(4)), np.ones(4)),
        measured(32, 1),
    ]
    (ignoring, *_), (without, *_) = (watch(search(history=sources), SPACE, 1)[0] for sources in (strangers, []))
    np.testing.assert_array_equal(ignoring, without)
    entries, *_ = diary(history=[*strangers, measured(32)])
    assert len(entries[0][1]) == 150


def test_history_needs_a_surrogate_that_adapts():
    from surrogates.mlp import MLP

    assert not hasattr(MLP, "adapt")
    (first,) = watch(search(surrogate=MLP(), history=[measured(32)]), SPACE, 1)[0]
    np.testing.assert_array_equal(first, watch(search(), SPACE, 1)[0][0])


def test_nothing_is_learned_from_failures_alone():
    entries: list = []
    watch(search(surrogate=Diary(entries=(entries,))), SPACE, 130, lambda space, knobs: np.zeros(len(knobs)))
    assert entries == []


@pytest.mark.parametrize(("plan", "chance"), [(8, 0), (20, 1), (64, 3)])
def test_plans_are_as_long_as_asked_for(plan, chance):
    first, second = watch(search(plan=plan, surrogate=Stubborn()), SPACE, plan + 1)[0]
    assert len(first) == len(second) == plan
    best = SPACE.features(second)[:, 0]
    assert (np.diff(best[: plan - chance]) <= 0).all()


@pytest.mark.parametrize("loss", ["rank", "reg"])
def test_trees_beat_chance_and_history_helps_them(loss):
    pytest.importorskip("xgboost", reason="needs the extra xgboost")
    from surrogates.xgboost import XGBoost

    options = {"surrogate": XGBoost(loss=loss), "plan": 32, "steps": 100}
    _, told = watch(search(**options), SPACE, 96)
    _, helped = watch(search(**options, history=[measured(32), measured(16)]), SPACE, 32)
    _, chance = watch(random.random_search(SPACE, key=KEY, batch=32), SPACE, 96)
    assert told[1].mean() > 1.5 * chance[1].mean()
    assert np.concatenate(told).max() > np.concatenate(chance).max()
    assert helped[0].mean() > 1.5 * chance[0].mean()


def test_trees_are_told_whose_the_sources_are(monkeypatch):
    pytest.importorskip("xgboost", reason="needs the extra xgboost")
    from surrogates.xgboost import XGBoost

    groups = []
    fit = XGBoost.fit
    monkeypatch.setattr(
        XGBoost, "fit", lambda self, *data, **options: groups.append(options["groups"]) or fit(self, *data, **options)
    )
    watch(search(surrogate=None, history=[measured(32, 9), measured(16, 5)]), SPACE, 1)
    assert groups[0].tolist() == [0] * 9 + [1] * 5


@pytest.mark.parametrize(("options", "sentence"), [({"plan": 0}, "plan: 0"), ({"epsilon": 1.5}, r"epsilon: 1\.5")])
def test_refusals_name_the_argument(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        autotvm(SPACE, key=KEY, **options)
