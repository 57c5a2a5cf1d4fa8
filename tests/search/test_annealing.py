"""The laws of simulated annealing: valid, distinct, exact where the space is small, and compiled once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, Split
from search.annealing import anneal

DIGITS = KnobSpace([Option(f"digit{place}", tuple(range(10))) for place in range(12)], encoding="raw")
"""10^12 configurations; the features are the option numbers."""


class Linear(eqx.Module):
    """A weighted sum of the features; counts how often it is traced, and may tell what it is asked to score."""

    weights: jax.Array
    traces: list = eqx.field(static=True, default_factory=list)
    tell: object = eqx.field(static=True, default=None)

    def __call__(self, x):
        self.traces.append(x.shape)
        if self.tell is not None:
            jax.debug.callback(self.tell, x)
        return x @ self.weights


SHARED: list = []


def linear(space, seed=0):
    """Another one of the same shape is no reason to compile."""
    return Linear(jnp.asarray(np.random.default_rng(seed).normal(size=len(space.feature_names)), jnp.float32), SHARED)


def even_sum(choice):
    """About half of the configurations."""
    return sum(values if values.ndim == 1 else values.sum(axis=-1) for values in choice.values()) % 2 == 0


def spread(space, rows):
    """A pool of `rows` configurations, evenly spaced: few are one knob apart."""
    return space.confine(space.from_index(range(0, space.product, space.product // rows)))


MIXED = [Split("split", 120, 4), Split("other", 36, 3), Option("unroll", (0, 512, 1500)), Option("explicit", (0, 1))]
SPACES = {
    "half valid": KnobSpace(MIXED, even_sum),
    "a pool": spread(DIGITS, 700),
    "a pool, half valid": spread(KnobSpace(MIXED, even_sum, encoding="raw"), 1500),
    "10^25": KnobSpace([Option(f"digit{place}", tuple(range(10))) for place in range(25)], encoding="raw"),
}
FEW = {"keep": 4, "chains": 8}
"""One shape for all tests, for compiling is what takes their time."""


def indices(space, knobs):
    """Their indices, after checking that none repeats."""
    listed = space.to_index(knobs)
    assert len(set(listed)) == len(listed)
    return listed


# What is returned, whatever the space


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 99),
    excluded=st.integers(0, 200),
    steps=st.integers(1, 60),
    patience=st.none() | st.integers(1, 20),
    explored=st.none() | st.integers(16, 600),
)
def test_result_is_valid_distinct_new_and_best_first(space, seed, excluded, **stopping):
    scorer = linear(space, seed)
    exclude = space.sample(jax.random.key(seed), excluded)
    options = {"exclude": exclude, **FEW, **stopping}
    found = anneal(space, scorer, key=jax.random.key(seed + 1), **options)
    listed = indices(space, found.knobs)
    assert len(listed) == 4
    assert space.valid(found.knobs).all()
    assert space.valid(found.chains).all()
    assert not set(listed) & set(space.to_index(exclude))
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(found.scores, scorer(space.features(found.knobs)), rtol=1e-4, atol=1e-4)
    assert found.explored <= (stopping["explored"] or 16 + 8 * stopping["steps"])
    again = anneal(space, scorer, key=jax.random.key(seed + 1), **options)
    assert all((a == b).all() for a, b in zip(found[:3], again[:3], strict=True))
    assert found.explored == again.explored


@st.composite
def small_spaces(draw):
    """Spaces of two splits and an option, with a predicate or without, whole or confined."""
    knobs = [
        Split("split", draw(st.integers(1, 12)), 2),
        Split("other", draw(st.integers(1, 6)), 2),
        Option("option", tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)))),
    ]
    space = KnobSpace(knobs, draw(st.sampled_from([None, even_sum])))
    if draw(st.booleans()):
        return space.confine(space.from_index(draw(st.lists(st.integers(0, space.product - 1)))))
    return space


@settings(deadline=None, max_examples=60)
@given(space=small_spaces(), keep=st.integers(1, 100), excluded=st.integers(0, 100), seed=st.integers(0, 99))
def test_small_space_is_searched_exactly(space, keep, excluded, seed):
    scorer = linear(space, seed)
    everything = space.sample(jax.random.key(seed), space.size)
    exclude, rest = everything[:excluded], everything[excluded:]
    found = anneal(space, scorer, key=jax.random.key(seed), keep=keep, exclude=exclude)
    assert set(indices(space, found.knobs)) <= set(space.to_index(rest))
    expected = np.sort(np.asarray(scorer(jnp.asarray(space.features(rest)))))[::-1][:keep]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5, atol=1e-5)
    assert found.explored == len(rest)


def test_what_is_left_of_a_large_space_is_found_in_full():
    exclude = SPACES["a pool"].pool.rows[7:]
    found = anneal(SPACES["a pool"], linear(DIGITS), key=jax.random.key(0), steps=20, exclude=exclude, **FEW | {"keep": 10})
    assert set(indices(DIGITS, found.knobs)) == set(DIGITS.to_index(SPACES["a pool"].pool.rows[:7]))


def test_ties_in_a_small_space_are_broken_at_random():
    space = KnobSpace([Option("only", tuple(range(50)))])
    first, second = (anneal(space, Linear(jnp.zeros(1)), key=jax.random.key(seed), keep=5).knobs for seed in (0, 1))
    assert not (first == second).all()


# How it searches


def test_only_valid_configurations_are_scored_and_the_best_of_all_are_kept():
    space, asked = SPACES["a pool, half valid"], []
    weights = np.random.default_rng(0).normal(size=len(space.feature_names)).astype(np.float32)
    scorer = Linear(jnp.asarray(weights), tell=lambda x: asked.append(np.asarray(x)))
    found = anneal(space, scorer, key=jax.random.key(0), keep=30, chains=8, steps=60, patience=None)
    jax.effects_barrier()
    scored = np.unique(np.concatenate(asked), axis=0)
    listed = space.pool.rows[space.valid(space.pool.rows)]
    assert set(map(tuple, scored.tolist())) <= set(map(tuple, space.features(listed).tolist()))
    np.testing.assert_allclose(found.scores, np.sort(scored @ weights)[::-1][:30], rtol=1e-4, atol=1e-4)


def test_optimum_of_a_separable_score_is_found():
    weights = np.linspace(-1, 1, 12)
    found = anneal(DIGITS, Linear(jnp.asarray(weights, jnp.float32), SHARED), key=jax.random.key(0), **FEW)
    assert found.knobs[0].tolist() == [9 if weight > 0 else 0 for weight in weights]


def test_pool_with_few_neighbours_is_walked_by_jumps():
    space, scorer = SPACES["a pool"], linear(DIGITS)
    every = np.sort(np.asarray(scorer(space.features(space.pool.rows))))[::-1]
    found = anneal(space, scorer, key=jax.random.key(0), steps=80, patience=None, **FEW)
    assert found.scores[3] >= every[20]


def test_chains_settle_in_the_boltzmann_distribution():
    space = KnobSpace([Option("scored", (0, 1, 2, 3, 4)), *DIGITS.knobs[:8]], encoding="raw")
    scorer = Linear(jnp.zeros(9).at[0].set(1.0))
    found = anneal(space, scorer, key=jax.random.key(0), chains=1000, steps=100, patience=None, temperature=(0.7, 0.7))
    shares = np.bincount(found.chains[:, 0], minlength=5) / 1000
    boltzmann = np.exp(np.arange(5) / (0.7 * np.std(np.arange(5))))
    np.testing.assert_allclose(shares, boltzmann / boltzmann.sum(), atol=0.05)


def test_frozen_chains_never_fall_and_leave_from_where_they_are_told():
    scorer, start = linear(DIGITS), DIGITS.sample(jax.random.key(0), 8)
    options = {"patience": None, "temperature": (0.0, 0.0), "start": start, **FEW}
    one = anneal(DIGITS, scorer, key=jax.random.key(1), steps=1, **options).chains
    assert ((one != start).sum(axis=1) <= 1).all()
    assert (one != start).any()
    many = anneal(DIGITS, scorer, key=jax.random.key(1), steps=40, **options).chains
    before, after = (np.asarray(scorer(DIGITS.features(knobs))) for knobs in (start, many))
    assert (after > before).all()


def test_invalid_starts_are_replaced():
    space = SPACES["half valid"]
    drawn = np.random.default_rng(0).integers(0, space.shape, size=(8, 4), dtype=np.int32)
    assert not space.valid(drawn).all()
    found = anneal(space, linear(space), key=jax.random.key(0), steps=5, start=drawn, **FEW)
    assert found.chains.shape == (8, 4)
    assert space.valid(found.chains).all()


def test_unit_of_the_scores_does_not_matter():
    one, thousand = (
        anneal(DIGITS, Linear(unit * linear(DIGITS).weights, SHARED), key=jax.random.key(0), steps=30, **FEW)
        for unit in (1.0, 1024.0)
    )
    assert (one.knobs == thousand.knobs).all()
    assert (one.chains == thousand.chains).all()


# When it stops


@pytest.mark.parametrize("patience", [1, 7])
def test_constant_scores_exhaust_the_patience(patience):
    found = anneal(DIGITS, Linear(jnp.zeros(12), SHARED), key=jax.random.key(0), steps=50, patience=patience, **FEW)
    assert found.explored == 8 + 8 + 8 * patience


def test_without_patience_all_steps_are_taken():
    found = anneal(DIGITS, Linear(jnp.zeros(12), SHARED), key=jax.random.key(0), steps=50, patience=None, **FEW)
    assert found.explored == 8 + 8 + 8 * 50


@pytest.mark.parametrize("limit", [16, 100, 103, 104])
def test_limit_of_explored_configurations_is_used_up_and_never_passed(limit):
    found = anneal(DIGITS, linear(DIGITS), key=jax.random.key(0), patience=None, explored=limit, **FEW)
    assert limit - 8 < found.explored <= limit


def test_next_fit_and_a_longer_list_of_exclusions_compile_nothing():
    first = anneal(DIGITS, linear(DIGITS, 0), key=jax.random.key(0), **FEW)
    traced = len(SHARED)
    for round in range(1, 4):
        anneal(
            DIGITS,
            linear(DIGITS, round),
            key=jax.random.key(round),
            steps=100 * round,
            patience=10 * round,
            explored=1000 * round,
            temperature=(round, 0.0),
            exclude=DIGITS.sample(jax.random.key(0), 300 * round),
            start=first.chains[:round],
            **FEW,
        )
    assert len(SHARED) == traced


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0}, "keep: 0 must be at least 1"),
        ({"chains": 0}, "chains: 0 must be at least 1"),
        ({"steps": 0}, "steps: 0 must be at least 1"),
        ({"patience": 0}, "patience: 0 must be at least 1"),
        ({"explored": 255}, "explored: 255 must be at least 256"),
        ({"temperature": (1.0, -1.0)}, r"temperature: \(1.0, -1.0\) must not be negative"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        anneal(DIGITS, linear(DIGITS), key=jax.random.key(0), **options)
