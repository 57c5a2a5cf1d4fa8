"""What every search method must do on every space: the laws that budgets, records and resuming rest on."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, Source, Split, run
from search.methods import METHODS, find, learns_from_history
from search.ppo import PPO
from surrogates import ExactGP
from tests.search.ridge import Ridge


def even_sum(choice):
    """Half of the configurations, roughly."""
    return sum(values if values.ndim == 1 else values.sum(axis=-1) for values in choice.values()) % 2 == 0


def nothing(choice):
    """Refuses everything."""
    return even_sum(choice) & ~even_sum(choice)


KNOBS = [Split("split", 12, 3), Option("unroll", (0, 512, 1500)), Option("explicit", (0, 1))]
MIXED = KnobSpace(KNOBS)
SPACES = {
    "one configuration": KnobSpace([Option("only", (7,))]),
    "one knob": KnobSpace([Split("split", 60, 2)]),
    "mixed knobs": MIXED,
    "a predicate": KnobSpace(KNOBS, even_sum),
    "nothing valid": KnobSpace(KNOBS, nothing),
    "confined": MIXED.confine(MIXED.from_index(range(3, 100, 7))),
    "confined to none": MIXED.confine(np.empty((0, 3), np.int32)),
    "confined, a predicate": KnobSpace(KNOBS, even_sum).confine(MIXED.from_index(range(3, 100, 7))),
    "10^20, a predicate": KnobSpace([Option(f"digits{place}", tuple(range(10_000))) for place in range(5)], even_sum),
}
THROUGHPUTS = {
    "rugged": lambda index: 0.0 if index % 7 == 3 else 1.0 + index * 2654435761 % 101,
    "constant": lambda index: 5.0,
    "all failing": lambda index: 0.0,
}
UNDISTURBED = 80
"""Measurements of a search that other searches are compared with: several batches of every method."""
LIVES = 30
"""Measurements after which a search is killed, most of them in the middle of a batch."""
ENOUGH = 150
"""More than any space has, but the one of 10^20."""

ANNEALED = {"surrogate": Ridge(), "plan": 16, "chains": 16, "steps": 20, "patience": 10}
REPRESENTATIVE = {"pool": 40, "batches": 2}
OPTIONS = {
    "autotvm": ANNEALED,
    "bted": ANNEALED | REPRESENTATIVE,
    "bted-bao": {"surrogate": Ridge(), "first": 8, "batch": 8, "limit": 256} | REPRESENTATIVE,
    "dgp-transfer": {"surrogate": Ridge(), "pool": 200, "tuning_set": 24, "deployed": 8, "patience": 20, "explored": 400},
    "chameleon": {"surrogate": Ridge(), "plan": 16, "walkers": 16, "settings": PPO(steps=20, horizon=10, minibatch=64)},
    "gga": {"surrogate": Ridge(), "generation": 16, "offspring": 4, "candidates": 256},
    "gausstune": {
        "process": ExactGP(evaluations=2),
        "surrogate": Ridge(),
        "first": 8,
        "batch": 32,
        "pool": 40,
        "leaders": 1,
        "limit": 64,
    },
}
"""What makes a method small, with a surrogate that compiles nothing: the laws are not about how well it searches."""

CHEAP = {"random", "grid", "ga"}
"""Methods that compile nothing, and can be tried on many spaces."""


class Killed(Exception):
    """Stands for SIGKILL."""


class Laboratory:
    """Measures by formula and remembers, as a log does; the first result of a batch arrives last.

    - `asked`: every index in the order in which it was asked for.
    - `known`: what was measured, here or in an earlier life.
    """

    def __init__(self, space, throughput, known=None, *, lives=None):
        self.space, self.throughput, self.lives = space, throughput, lives
        self.known = {} if known is None else known
        self.asked, self.new = [], []

    def measure(self, knobs):
        index = self.space.to_index(knobs)
        self.asked += index
        rows = range(len(index))
        for row in sorted(rows, key=lambda row: (index[row] not in self.known, -row)):
            number = index[row]
            if number not in self.known:
                if len(self.new) == self.lives:
                    raise Killed
                self.new.append(number)
                self.known[number] = self.throughput(number)
            yield row, self.known[number]


def relative(space):
    """Measurements of another task with the same knobs."""
    whole = KnobSpace(space.knobs, encoding=space.encoding)
    knobs = whole.sample(jax.random.key(7), 12)
    return Source("relative", whole, knobs, np.array([THROUGHPUTS["rugged"](index) for index in whole.to_index(knobs)]))


def search(name, space, laboratory, *, trials=ENOUGH, seed=0):
    """Run a method; one that learns from other tasks starts with one."""
    method = METHODS[name]
    options = {"history": [relative(space)]} if learns_from_history(method) else {}
    try:
        return run(
            method(space, key=jax.random.key(seed), **options, **OPTIONS.get(name, {})), laboratory.measure, trials=trials
        )
    except ImportError as missing:
        pytest.skip(str(missing))


def proposals(name, space, throughput, **options):
    """The indices that a method asks for."""
    laboratory = Laboratory(space, throughput)
    search(name, space, laboratory, **options)
    return laboratory.asked


def valid_indices(space):
    return set(space.valid(space.from_index(range(space.product))).nonzero()[0].tolist())


methods = pytest.mark.parametrize("method", METHODS)


@functools.cache
def undisturbed(method, place):
    """What a method proposes where throughputs are rugged, made once."""
    return proposals(method, SPACES[place], THROUGHPUTS["rugged"], trials=UNDISTURBED)


small = pytest.mark.parametrize(
    "space", [space for name, space in SPACES.items() if name != "10^20, a predicate"], ids=list(SPACES)[:-1]
)
whatever_is_measured = pytest.mark.parametrize("throughput", THROUGHPUTS.values(), ids=THROUGHPUTS)


@methods
@pytest.mark.parametrize("place", SPACES)
@whatever_is_measured
def test_proposals_are_valid_distinct_and_within_budget(method, place, throughput):
    space, rugged = SPACES[place], throughput is THROUGHPUTS["rugged"]
    asked = undisturbed(method, place) if rugged else proposals(method, space, throughput, trials=UNDISTURBED)
    assert len(asked) == len(set(asked)) <= UNDISTURBED
    assert not asked or space.valid(space.from_index(asked)).all()


@methods
@small
@whatever_is_measured
def test_search_ends_by_itself_once_the_space_is_exhausted(method, space, throughput):
    laboratory = Laboratory(space, throughput)
    assert search(method, space, laboratory).stopped == "exhausted"
    assert set(laboratory.asked) <= valid_indices(space)


@methods
@pytest.mark.parametrize("place", SPACES)
@pytest.mark.parametrize("trials", [1, 65])
def test_same_seed_gives_the_same_proposals_and_a_smaller_budget_a_prefix(method, place, trials):
    assert proposals(method, SPACES[place], THROUGHPUTS["rugged"], trials=trials) == undisturbed(method, place)[:trials]


@methods
@pytest.mark.parametrize("place", SPACES)
def test_killed_search_goes_on_as_if_undisturbed(method, place):
    space, expected = SPACES[place], undisturbed(method, place)
    killed = Laboratory(space, THROUGHPUTS["rugged"], lives=LIVES)
    if len(expected) > LIVES:
        with pytest.raises(Killed):
            search(method, space, killed, trials=UNDISTURBED)
    else:
        search(method, space, killed, trials=UNDISTURBED)
    resumed = Laboratory(space, THROUGHPUTS["rugged"], killed.known.copy())
    search(method, space, resumed, trials=UNDISTURBED)
    assert resumed.asked == expected
    assert sorted(killed.new + resumed.new) == sorted(expected)


@st.composite
def spaces(draw):
    """Small spaces of one to four knobs with and without a predicate, whole and confined."""
    knobs = [
        draw(
            st.builds(Split, st.just(f"split{place}"), st.integers(1, 12), st.integers(1, 3))
            | st.builds(Option, st.just(f"option{place}"), st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True))
        )
        for place in range(draw(st.integers(1, 4)))
    ]
    space = KnobSpace(knobs, draw(st.sampled_from([None, even_sum])), encoding=draw(st.sampled_from(["log2", "raw"])))
    assume(space.product <= 200)
    if draw(st.booleans()):
        return space.confine(space.from_index(draw(st.lists(st.integers(0, space.product - 1)))))
    return space


@methods
def test_any_space_is_searched_validly_and_reproducibly(method):
    @settings(deadline=None, max_examples=20 if method in CHEAP else 2)
    @given(spaces(), st.sampled_from(list(THROUGHPUTS.values())), st.integers(1, 200), st.integers(0, 99))
    def law(space, throughput, trials, seed):
        asked = proposals(method, space, throughput, trials=trials, seed=seed)
        assert len(asked) == len(set(asked)) <= trials
        assert set(asked) <= valid_indices(space)
        assert proposals(method, space, throughput, trials=trials, seed=seed) == asked

    law()


# The registry


@methods
def test_methods_have_a_sentence_for_the_list(method):
    assert (METHODS[method].__doc__ or "").splitlines()[0].endswith(".")


def test_methods_are_found_by_name_or_given_as_functions():
    assert find("random") is METHODS["random"]
    assert find(METHODS["grid"]) is METHODS["grid"]


@pytest.mark.parametrize("name", ["", "randon", None])
def test_unknown_method_lists_the_known(name):
    with pytest.raises(ValueError, match=f"method: {name!r} is not one of random, grid"):
        find(name)


def test_misspelt_method_is_guessed():
    with pytest.raises(ValueError, match=r"Did you mean 'random'\?"):
        find("randon")
