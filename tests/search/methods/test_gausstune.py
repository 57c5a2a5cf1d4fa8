"""Our own method: it finds more than chance does, history helps it, and a history that lies costs it little."""

import importlib
from contextlib import nullcontext
from dataclasses import replace

import jax
import numpy as np
import pytest

from search.methods.gausstune import gausstune
from search.transfer import exact_elites, pooled
from surrogates import ExactGP, SparseGP
from tests.search.methods.landscape import gflops, layer, measured, watch

module = importlib.import_module("search.methods.gausstune")
KEY = jax.random.key(0)
SPACE = layer(64)
HISTORY = [measured(32), measured(16)]
SAME = [measured(64, seed=1)]
PLAIN = SparseGP(inducing=64)
HASTY = ExactGP(evaluations=10)
LIES = [replace(source, throughput=source.throughput.max() - source.throughput) for source in HISTORY]


def best(trials: int, seed: int = 0, **options) -> float:
    search = gausstune(SPACE, key=jax.random.key(seed), process=HASTY, **options)
    _, told = watch(search, SPACE, trials)
    return float(np.concatenate(told)[:trials].max())


def test_it_finds_what_chance_does_not():
    values = gflops(SPACE, SPACE.sample(KEY, SPACE.size))
    assert best(48) > np.quantile(values, 0.99)


def test_history_is_worth_measurements():
    taught = [best(8, seed, history=HISTORY, surrogate=PLAIN) for seed in range(3)]
    assert np.mean(taught) > np.mean([best(8, seed) for seed in range(3)])


def test_of_a_history_that_lies_in_part_the_other_part_is_believed():
    options = {"replayed": 0, "halving": 1e9}
    told = {
        name: np.mean([best(16, seed, history=history, **options) for seed in range(3)])
        for name, history in {"truth": HISTORY[:1], "part": [HISTORY[0], LIES[1]], "lies": LIES}.items()
    }
    assert told["part"] > 0.9 * told["truth"]
    assert told["part"] > told["lies"]


def test_a_model_that_is_given_takes_the_place_of_all_that_a_history_teaches(monkeypatch):
    def refused(*told, **more):
        raise AssertionError("nothing of the history is to be learned")

    monkeypatch.setattr(module, "lessons", refused)
    monkeypatch.setattr(module.SquareRoot, "fit", refused)
    pool = pooled(HISTORY, SPACE)
    model = PLAIN.fit(pool.x, pool.y, key=KEY)
    (first, *_), _ = watch(gausstune(SPACE, key=KEY, history=SAME, pretrained=model), SPACE, 24)
    np.testing.assert_array_equal(first[:6], SAME[0].knobs[np.argsort(-SAME[0].throughput)[:6]])
    assert best(16, pretrained=model) > 0


def test_a_whole_history_is_learned_if_its_favourites_or_its_score_are_asked_for(monkeypatch):
    fits = []
    monkeypatch.setattr(
        module.SquareRoot, "fit", lambda self, x, y, *, key: fits.append(len(y)) or self.base.fit(x, y, key=key)
    )
    for history, options in ((SAME, {}), (HISTORY, {}), (SAME, {"apart": False}), (HISTORY, {"replayed": 0})):
        fits.clear()
        watch(gausstune(SPACE, key=KEY, history=history, surrogate=PLAIN, process=HASTY, **options), SPACE, 16)
        assert len(fits) == (options != {"replayed": 0} and (history is HISTORY or "apart" in options))


def test_a_history_without_a_rule_is_no_history():
    (known,) = SAME
    permuted = replace(known, throughput=np.random.default_rng(0).permutation(known.throughput))
    plain, told = (watch(gausstune(SPACE, key=KEY, **more), SPACE, 16)[0] for more in ({}, {"history": [permuted]}))
    np.testing.assert_array_equal(np.concatenate(told), np.concatenate(plain))


def test_of_a_history_that_failed_throughout_nothing_is_believed():
    failed = [replace(source, throughput=0 * source.throughput) for source in HISTORY]
    plain, told = (watch(gausstune(SPACE, key=KEY, replayed=0, **more), SPACE, 24)[0] for more in ({}, {"history": failed}))
    np.testing.assert_array_equal(np.concatenate(told), np.concatenate(plain))


def test_a_history_that_lies_costs_little():
    assert best(64, history=LIES, surrogate=PLAIN) > 0.9 * best(64)


def test_the_first_batch_replays_what_was_best_elsewhere():
    (first, *_), _ = watch(gausstune(SPACE, key=KEY, history=SAME, surrogate=PLAIN, first=6, replayed=2 / 3), SPACE, 1)
    (known,) = (source.knobs[np.argsort(-source.throughput)[:4]] for source in SAME)
    np.testing.assert_array_equal(first[:4], known)


def test_favourites_of_the_history_take_the_places_of_what_this_space_lacks():
    (first, *_), _ = watch(gausstune(SPACE, key=KEY, history=HISTORY, surrogate=PLAIN, first=8, replayed=0.5), SPACE, 1)
    assert not len(exact_elites(HISTORY, SPACE, 4))
    values = gflops(SPACE, SPACE.sample(KEY, SPACE.size))
    assert gflops(SPACE, first[:4]).min() > np.quantile(values, 0.9)


def test_the_start_represents_the_space_or_is_drawn():
    starts = {diverse: watch(gausstune(SPACE, key=KEY, diverse=diverse), SPACE, 1)[0][0] for diverse in (True, False)}
    near = {diverse: nearest(np.asarray(SPACE.features(knobs))) for diverse, knobs in starts.items()}
    assert len(starts[True]) == len(starts[False]) == 8
    assert near[True] > near[False]


def nearest(x: np.ndarray) -> float:
    """The mean distance of a point to the one nearest to it."""
    distances = np.linalg.norm(x[:, None] - x, axis=-1) + np.where(np.eye(len(x)), np.inf, 0)
    return float(distances.min(axis=1).mean())


def test_a_batch_is_what_was_asked_for():
    batches, _ = watch(gausstune(SPACE, key=KEY, first=5, batch=3), SPACE, 14)
    assert [len(batch) for batch in batches] == [5, 3, 3, 3]


def test_later_batches_compile_nothing():
    search = gausstune(SPACE, key=KEY, history=HISTORY, process=HASTY)
    batch = next(search)
    for number in range(7):
        with jax.no_tracing() if number > 3 else nullcontext():
            batch = search.send(gflops(SPACE, batch))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"first": 1}, "first, limit, batch, pool, leaders: 1, 1024, 8, 8192, 4 must be at least"),
        ({"batch": 0}, "must be at least 2, 2, 1, 1, 0"),
        ({"replayed": 9}, r"replayed, trusted: 9, 1\.0 must be parts"),
        ({"trusted": 9}, r"replayed, trusted: 0\.75, 9 must be parts"),
        ({"halving": 0}, "halving: 0 must be above 0"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        gausstune(SPACE, key=KEY, **options)
