"""Transductive experimental design agrees with its definition, and its batched form keeps the laws of proposals."""

import importlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, Split
from search.ted import bted, ted
from surrogates.chunks import in_chunks

module = importlib.import_module("search.ted")  # the package shows its function under this name


def points(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def rbf(x):
    """The kernel of standardised features with lengthscale sqrt(d)."""
    z = (np.float64(x) - x.mean(axis=0)) / x.std(axis=0, dtype=np.float64)
    return np.exp(-((z[:, None] - z[None]) ** 2).sum(axis=-1) / (2 * x.shape[1]))


def transcription(kernel, count, mu, choices=None):
    """Algorithm 1 with explicit deflation in float64, picked points masked: its choices, and every step's criterion.

    Given `choices`, it follows these.
    """
    chosen, criteria = [], []
    for step in range(count):
        criterion = (kernel**2).sum(axis=0) / (np.diag(kernel) + mu)
        criterion[chosen] = -np.inf
        chosen.append(int(np.argmax(criterion)) if choices is None else int(choices[step]))
        criteria.append(criterion)
        column = kernel[:, chosen[-1]]
        kernel = kernel - np.outer(column, column) / (column[chosen[-1]] + mu)
    return chosen, np.array(criteria)


@pytest.mark.parametrize(("n", "d", "count"), [(1, 3, 1), (40, 1, 6), (60, 5, 60), (500, 20, 64)])
@pytest.mark.parametrize("seed", range(3))
def test_choices_are_those_of_explicit_deflation(n, d, count, seed):
    x = points(n, d, seed) + np.arange(d)
    expected, _ = transcription(rbf(x) if n > 1 else np.ones((1, 1)), count, 0.1)
    assert ted(x, count).tolist() == expected


@settings(deadline=None, max_examples=20)
@given(n=st.integers(9, 32), d=st.sampled_from([1, 3]), mu=st.floats(0.05, 10), seed=st.integers(0, 999))
def test_every_choice_is_the_best_of_its_step(n, d, mu, seed):
    x = points(n, d, seed)
    chosen = ted(x, 9, mu=mu)
    assert len(set(chosen.tolist())) == 9
    _, criteria = transcription(rbf(x), 9, mu, chosen)
    best, taken = criteria.max(axis=1), criteria[np.arange(9), chosen]
    np.testing.assert_allclose(taken, best, rtol=1e-3, atol=1e-5 * best[0] / mu)


def test_blocks_of_a_large_kernel_give_the_same_choices(monkeypatch):
    used = []
    monkeypatch.setattr(module, "STORED", 300)
    monkeypatch.setattr(module, "BLOCK", 64)
    monkeypatch.setattr(module, "in_chunks", lambda *arguments: used.append(1) or in_chunks(*arguments))
    x = points(700, 6, seed=0)
    assert ted(x, 30).tolist() == transcription(rbf(x), 30, 0.1)[0]
    assert used


@pytest.mark.parametrize("together", [1, 2, 3])
def test_how_many_pools_are_kept_at_a_time_does_not_matter(monkeypatch, together):
    settings = {"key": jax.random.key(0), "count": 8, "pool": 41, "batches": 7}
    expected = bted(LARGE, **settings)
    monkeypatch.setattr(module, "STORED", int(41 * together**0.5) + 1)
    jax.clear_caches()  # what is compiled does not look again
    np.testing.assert_array_equal(bted(LARGE, **settings), expected)
    jax.clear_caches()


def test_distance_matrix_picks_one_point_for_ever():
    """Why K is a kernel: read literally, with K the distances and no mask, Algorithm 1 finds one point and stays with it."""
    x = points(200, 8, seed=0)
    distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=-1))
    chosen = []
    for _ in range(20):
        criterion = (distances**2).sum(axis=0) / (np.diag(distances) + 0.1)
        chosen.append(int(np.argmax(criterion)))
        column = distances[:, chosen[-1]]
        distances = distances - np.outer(column, column) / (column[chosen[-1]] + 0.1)
    assert len(set(chosen)) == 1


def test_choices_represent_clusters_before_details():
    centres = 10 * np.eye(5, dtype=np.float32)
    x = np.repeat(centres, [40, 10, 30, 5, 20], axis=0) + 0.1 * points(105, 5, seed=0)
    clusters = np.repeat(np.arange(5), [40, 10, 30, 5, 20])
    assert sorted(clusters[ted(x, 5)]) == [0, 1, 2, 3, 4]


def test_choices_leave_less_variance_than_random_ones():
    x = points(100, 4, seed=0)
    kernel = rbf(x)

    def left(rows):
        return np.trace(kernel - kernel[:, rows] @ np.linalg.solve(kernel[np.ix_(rows, rows)] + 0.1 * np.eye(10), kernel[rows]))

    generator = np.random.default_rng(0)
    assert left(ted(x, 10)) < min(left(generator.choice(100, 10, replace=False)) for _ in range(100))


def test_unit_of_a_feature_and_constant_features_do_not_matter():
    x = points(100, 4, seed=0)
    expected = ted(x, 10).tolist()
    assert ted(x * np.array([1, 8, 64, 1 / 32], np.float32) + np.array([0, 1, -2, 0], np.float32), 10).tolist() == expected
    assert ted(np.column_stack([np.full(100, 0.1), x, np.zeros(100)]), 10).tolist() == expected
    assert sorted(ted(np.full((7, 3), 1.585), 7).tolist()) == list(range(7))


def test_repeated_points_are_picked_once_each_and_late():
    x = np.concatenate([points(30, 4, seed=0)] * 2)
    chosen = ted(x, 60)
    assert sorted(chosen) == list(range(60))
    assert len(set((ted(x, 10) % 30).tolist())) == 10


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (np.zeros((4, 2)), {"count": 5}, "count: 5 must be between 1 and the number of points, 4"),
        (np.zeros((4, 2)), {"count": 0}, "count: 0 must be between 1"),
        (np.zeros((4, 2)), {"count": 1, "mu": 0.0}, "mu: 0.0 must be above 0"),
        (np.full((4, 2), np.nan), {"count": 1}, "row 0, column 0 is not finite"),
        (np.zeros(4), {"count": 1}, r"shape \(4,\) must be \(n, d\)"),
    ],
)
def test_impossible_choices_are_refused(features, options, message):
    with pytest.raises(ValueError, match=message):
        ted(features, **options)


# Batches


def even_sum(choice):
    """About half of the configurations."""
    return sum(values if values.ndim == 1 else values.sum(axis=-1) for values in choice.values()) % 2 == 0


LARGE = KnobSpace([Option(f"digit{place}", tuple(range(10))) for place in range(25)])


@settings(deadline=None, max_examples=50)
@given(
    extent=st.sampled_from([1, 6, 12, 60, 720]),
    predicate=st.sampled_from([None, even_sum]),
    confined=st.booleans(),
    excluded=st.integers(0, 300),
    seed=st.integers(0, 99),
)
def test_proposals_are_valid_distinct_new_and_as_many_as_there_are(extent, predicate, confined, excluded, seed):
    space = KnobSpace([Split("split", extent, 4), Option("unroll", (0, 512, 1500))], predicate)
    if confined:
        space = space.confine(space.from_index(range(0, space.product, 3)))
    everything = space.sample(jax.random.key(seed), space.size)
    exclude = everything[:excluded]
    chosen = bted(space, key=jax.random.key(seed), count=8, pool=40, batches=3, exclude=exclude)
    listed = space.to_index(chosen)
    assert len(set(listed)) == len(listed) == min(8, len(everything) - len(exclude))
    assert space.valid(chosen).all()
    assert not set(listed) & set(space.to_index(exclude))
    assert listed == space.to_index(bted(space, key=jax.random.key(seed), count=8, pool=40, batches=3, exclude=exclude))


@pytest.mark.parametrize("space", [LARGE, KnobSpace([Split("split", 720, 4)], even_sum)], ids=["10^25", "a few batches"])
def test_batches_are_chosen_from_and_then_their_union(space):
    key, pool, batches, count = jax.random.key(3), 40, 3, 8
    drawn = space.sample(key, pool * batches)
    x = space.features(drawn)
    kernel = rbf(x[:, np.ptp(x, axis=0) > 0])
    union = []
    for first in range(0, len(drawn), pool):
        batch = np.arange(first, min(first + pool, len(drawn)))
        union += batch[transcription(kernel[np.ix_(batch, batch)], count, 0.1)[0]].tolist()
    expected = np.array(union)[transcription(kernel[np.ix_(union, union)], count, 0.1)[0]]
    chosen = bted(space, key=key, count=count, pool=pool, batches=batches)
    assert chosen.tolist() == drawn[expected].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count: 0 must be between 1 and the size of a pool, 500"),
        ({"count": 65, "pool": 64}, "count: 65 must be between 1 and the size of a pool, 64"),
        ({"batches": 0}, "batches: 0 must be at least 1"),
        ({"mu": -1.0}, "mu: -1.0 must be above 0"),
    ],
)
def test_impossible_batches_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bted(LARGE, key=jax.random.key(0), **options)


def test_every_part_is_represented():
    few = [option for option, row in enumerate(Split("split0", 64, 4).table) if row[3] == 8 and row[2] == 4]
    space = KnobSpace(
        [Option("kind", (0, 1)), Split("split0", 64, 4), Split("split1", 56, 4)],
        lambda choice: (choice["kind"] == 0) | ((choice["split0"][..., 3] == 8) & (choice["split0"][..., 2] == 4)),
        parts=[((0,), range(84), range(80)), ((1,), few, range(80))],
    )
    chosen = bted(space, key=jax.random.key(0), count=8)
    assert np.bincount(chosen[:, 0]).tolist() == [4, 4]
    assert len(np.unique(chosen, axis=0)) == 8
    assert space.valid(chosen).all()
