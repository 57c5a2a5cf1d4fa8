"""Histories are what their name says."""

import numpy as np
import pytest

from experiments.method_comparison import ABLATIONS, TAUGHT, UNTAUGHT, _best_so_far, _history, applies, compared
from experiments.recorded import Recorded
from search import KnobSpace, Option, Source
from search.methods import METHODS
from search.methods.grid import grid_search

SPACE = KnobSpace([Option("a", tuple(range(30))), Option("b", tuple(range(20)))])
ROWS = SPACE.from_index(range(SPACE.size))
TASKS = [
    Recorded("gpu", "conv2d", name, Source(name, SPACE, ROWS, np.random.default_rng(seed).uniform(1, 2, len(ROWS))))
    for seed, name in enumerate(["one", "two", "three"])
]


def test_history_is_a_sample_of_the_other_tasks():
    history = _history(TASKS[0], TASKS, "same", seed=0)
    assert [source.name for source in history] == ["two", "three"]
    for source, task in zip(history, TASKS[1:], strict=True):
        assert len(source.knobs) == TAUGHT
        np.testing.assert_array_equal(source.throughput, task.throughput_of(source.knobs))
    assert _history(TASKS[0], TASKS, "none", seed=0) == []


@pytest.mark.parametrize(("kind", "correlations"), [("inverted", [-1, -1]), ("mixed", [1, -1]), ("permuted", [0, 0])])
def test_adversarial_histories_mislead(kind, correlations):
    for source, task, expected in zip(_history(TASKS[0], TASKS, kind, seed=0), TASKS[1:], correlations, strict=True):
        truth = task.throughput_of(source.knobs)
        assert np.corrcoef(source.throughput, truth)[0, 1] == pytest.approx(expected, abs=0.2)
        np.testing.assert_allclose(np.ptp(source.throughput), np.ptp(truth))


def test_the_best_so_far_never_falls_and_ends_at_the_end():
    best, seconds = _best_so_far(TASKS[0], grid_search(SPACE, key=None))
    assert best == sorted(best)
    assert 0 < best[0] <= best[-1] <= 1
    assert seconds > 0


def test_dgp_transfer_has_its_proportion_of_the_budget_and_an_ablation_its_change():
    assert compared("dgp-transfer", 128).keywords == {"tuning_set": 96, "deployed": 32}
    assert compared("gga", 128).keywords == {}
    random_start = compared("gausstune, random start", 128)
    assert (random_start.func, random_start.keywords) == (METHODS["gausstune"], {"diverse": False})


def test_what_needs_a_history_is_run_with_one():
    assert not any(applies(name, "none") for name in (*UNTAUGHT, "dgp-transfer"))
    assert all(applies(name, "same") for name in (*UNTAUGHT, *ABLATIONS, "dgp-transfer"))
    assert applies("random", "none")
    assert not applies("random", "same")
