"""The laws of knob spaces: numbering, sampling, features, neighbourhoods, confinement, and what they refuse."""

import gzip
import json
import math
from collections import defaultdict

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import KnobSpace, Option, Split
from search.knobs import factorisations
from tests.records_folder import RECORDS, needs_records
from tests.search.spaces import DIGITS_12, DIGITS_25, admitted, as_set, chi_square, critical, everything, keys, spaces

LAW = settings(deadline=None)


def prime_exponents(number: int) -> list[int]:
    """The exponents of a number's prime factors."""
    exponents, prime = [], 2
    while number > 1:
        exponents.append(0)
        while number % prime == 0:
            number //= prime
            exponents[-1] += 1
        prime += 1
    return exponents


# Factorisations


@LAW
@given(st.integers(1, 5000), st.integers(1, 4))
def test_factors_multiply_to_the_extent(extent, ways):
    table = factorisations(extent, ways)
    assert (table.prod(axis=1) == extent).all()
    assert table.shape[1] == ways


@LAW
@given(st.integers(1, 5000), st.integers(1, 4))
def test_factorisations_are_counted_by_stars_and_bars(extent, ways):
    """Each prime's exponent e is shared out among the axes independently, in C(e + ways - 1, ways - 1) ways."""
    expected = math.prod(math.comb(e + ways - 1, ways - 1) for e in prime_exponents(extent))
    assert len(as_set(factorisations(extent, ways))) == expected


@LAW
@given(st.integers(1, 2000), st.integers(2, 4))
def test_innermost_factor_varies_slowest_and_the_second_fastest(extent, ways):
    rows = factorisations(extent, ways).tolist()
    assert rows == sorted(rows, key=lambda row: row[:0:-1])


# Numbering


@LAW
@given(spaces(), st.data())
def test_index_round_trip(space, data):
    index = data.draw(st.lists(st.integers(0, space.product - 1), min_size=1, max_size=20))
    rows = space.from_index(index)
    assert space.to_index(rows) == index
    assert space.to_index(jnp.asarray(rows)) == index
    assert space.to_index(rows[0]) == index[0]
    assert (space.from_index(index[0]) == rows[0]).all()


@pytest.mark.parametrize("space", [DIGITS_12, DIGITS_25], ids=["1e12", "1e25"])
@LAW
@given(data=st.data())
def test_index_is_mixed_radix_with_the_first_knob_fastest(space, data):
    digits = data.draw(st.lists(st.integers(0, 9), min_size=len(space.knobs), max_size=len(space.knobs)))
    index = int("".join(map(str, reversed(digits))))
    assert space.to_index(np.array(digits)) == index
    assert space.to_index(np.array([digits, digits])) == [index, index]
    assert space.from_index([index, 0]).tolist() == [digits, [0] * len(digits)]
    assert space.from_index(index).tolist() == digits


def test_every_index_names_one_configuration():
    space = KnobSpace([Split("split0", 12, 3), Option("option1", (5,)), Option("option2", (0, 1, 7))])
    rows = space.from_index(range(space.product))
    assert as_set(rows) == as_set(everything(space))
    assert rows[:, 0].tolist() == list(range(space.shape[0])) * 3


@needs_records
def test_autotvm_numbers_configurations_alike():
    """Every line of every published AutoTVM log: the logged index, taken apart here, gives the logged factors, and back."""
    for (operator, args), (index, values) in recorded_configurations().items():
        space = KnobSpace(autotvm_knobs(operator, json.loads(args)))
        rows = space.from_index(index)
        choice = space.choice(rows)
        assert set(values) == set(space.names)
        for name, logged in values.items():
            if name.startswith("tile"):  # the first logged factor is -1: what remains
                assert (choice[name][:, 1:] == np.array(logged)[:, 1:]).all(), (operator, args, name)
            else:
                assert (choice[name] == np.array(logged)).all(), (operator, args, name)
        assert space.to_index(rows) == index


def recorded_configurations():
    """`{(operator, args): (indices, {knob: values})}` of every line."""
    assert RECORDS is not None
    tasks: dict[tuple[str, str], tuple[list[int], dict[str, list]]] = defaultdict(lambda: ([], defaultdict(list)))
    for path in sorted(RECORDS.glob("autotvm/**/*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            for line in map(json.loads, lines):
                _, operator, args, _ = line["input"]
                index, values = tasks[operator, json.dumps(args)]
                index.append(line["config"]["index"])
                for name, _, value in line["config"]["entity"]:
                    values[name].append(value)
    assert len(tasks) > 1
    return tasks


def autotvm_knobs(operator: str, args: list) -> list[Split | Option]:
    """The knobs of AutoTVM's direct CUDA templates."""
    (_, (_, channels, *data), _), (_, (filters, _, *kernel), _), stride, padding, *_ = args
    strides = stride if isinstance(stride, list) else [stride, stride]
    border = {"SAME": [k - 1 for k in kernel], "VALID": [0, 0]}
    around = border[padding] if isinstance(padding, str) else [padding[0] + padding[2], padding[1] + padding[3]]
    rows, columns = ((d + p - k) // s + 1 for d, p, k, s in zip(data, around, kernel, strides, strict=True))
    tiles: list[Split | Option] = [Split("tile_f", filters, 4), Split("tile_y", rows, 4), Split("tile_x", columns, 4)]
    if operator == "conv2d_nchw.cuda":
        tiles += [Split("tile_rc", channels, 2), Split("tile_ry", kernel[0], 2), Split("tile_rx", kernel[1], 2)]
    steps = (0, 512, 1500) if operator == "conv2d_nchw.cuda" else (0, 256, 1500)
    return [*tiles, Option("auto_unroll_max_step", steps), Option("unroll_explicit", (0, 1))]


# Configurations


@LAW
@given(spaces(), st.data())
def test_config_round_trip(space, data):
    row = space.from_index(data.draw(st.integers(0, space.product - 1)))
    config = space.to_config(row)
    assert (space.from_config(dict(reversed(config.items()))) == row).all()
    as_logged = {name: [-1, *value[1:]] if isinstance(value, tuple) else value for name, value in config.items()}
    assert (space.from_config(as_logged) == row).all()


@LAW
@given(spaces(), st.data())
def test_choice_and_config_agree(space, data):
    rows = space.from_index(data.draw(st.lists(st.integers(0, space.product - 1), min_size=1, max_size=5)))
    choice = space.choice(rows)
    for place, row in enumerate(rows):
        for name, value in space.to_config(row).items():
            assert np.array_equal(choice[name][place], value)


# Features


@LAW
@given(spaces(), st.data())
def test_features_agree_with_knobs(space, data):
    rows = space.from_index(data.draw(st.lists(st.integers(0, space.product - 1), min_size=1, max_size=5)))
    expected = []
    for row in rows:
        columns: list[float] = []
        for value in space.to_config(row).values():
            if space.encoding == "raw":
                columns += value if isinstance(value, tuple) else [value]
            else:
                columns += [math.log2(factor) for factor in value] if isinstance(value, tuple) else [math.log2(1 + value)]
        expected.append(columns)
    features = space.features(rows)
    assert features.dtype == np.float32
    assert features.shape == (len(rows), len(space.feature_names))
    np.testing.assert_allclose(features, expected, rtol=1e-6)


def test_feature_names_say_knob_and_axis():
    space = KnobSpace([Split("tile_f", 64, 4), Split("tile_rc", 64, 2), Option("unroll_explicit", (0, 1))])
    splits = ["tile_f[0]", "tile_f[1]", "tile_f[2]", "tile_f[3]", "tile_rc[0]", "tile_rc[1]"]
    assert space.feature_names == (*splits, "unroll_explicit")


def test_negative_options_keep_their_sign():
    space = KnobSpace([Option("level", (-3, 0, 3)), Option("share", (0.5,))])
    np.testing.assert_allclose(space.features(everything(space))[:, 0], [-2, 0, 2])
    np.testing.assert_allclose(space.features(everything(space))[:, 1], math.log2(1.5), rtol=1e-6)


@settings(deadline=None, max_examples=4)
@given(spaces())
def test_jit_changes_nothing(space):
    rows = everything(space)
    confined = space.confine(rows[::3])
    closed_over = jax.jit(lambda knobs: (space.features(knobs), space.valid(knobs)))
    argument = eqx.filter_jit(lambda space, knobs: (space.features(knobs), space.valid(knobs)))
    for features, valid in (closed_over(jnp.asarray(rows)), argument(space, jnp.asarray(rows))):
        assert (features == space.features(rows)).all()
        assert (valid == space.valid(rows)).all()
    assert (argument(confined, jnp.asarray(rows))[1] == confined.valid(rows)).all()


# Validity and sampling


@LAW
@given(spaces())
def test_valid_is_what_the_predicate_admits(space):
    rows = everything(space)
    assert as_set(rows[space.valid(rows)]) == admitted(space)
    assert [bool(space.valid(row)) for row in rows[:20]] == space.valid(rows)[:20].tolist()


# Neighbourhoods


def within(points: set[tuple[int, ...]], centre: np.ndarray, radius: float) -> set[tuple[int, ...]]:
    """The points near a centre, and not the centre, by definition."""
    squared = {point: sum((a - b) ** 2 for a, b in zip(point, centre.tolist(), strict=True)) for point in points}
    return {point for point, distance in squared.items() if 0 < distance <= radius * radius}


RADII = st.integers(0, 26).map(lambda quarters: quarters / 4)


@LAW
@given(spaces(), RADII, st.data())
def test_neighbours_are_what_brute_force_finds(space, radius, data):
    centre = space.from_index(data.draw(st.integers(0, space.product - 1)))
    near = space.neighbours(centre, radius)
    assert near.dtype == np.int32
    assert as_set(near) == within(admitted(space), centre, radius)


@LAW
@given(spaces(), RADII, keys, st.integers(0, 30), st.data())
def test_limited_neighbours_are_some_of_all(space, radius, key, limit, data):
    centre = space.from_index(data.draw(st.integers(0, space.product - 1)))
    ball = within(as_set(everything(space)), centre, radius)
    near = as_set(space.neighbours(centre, radius, limit=limit, key=key))
    assert len(near) <= limit
    assert near <= ball & admitted(space)
    assert (
        space.neighbours(centre, radius, limit=limit, key=key) == space.neighbours(centre, radius, limit=limit, key=key)
    ).all()
    if space.predicate is None:
        assert len(near) == min(limit, len(ball))


def test_limited_neighbours_are_uniform():
    space, centre, limit = (
        KnobSpace([Option("option0", tuple(range(5))), Option("option1", tuple(range(5)))]),
        np.array([1, 2]),
        4,
    )
    ball = within(as_set(everything(space)), centre, 2.0)
    drawn = [space.neighbours(centre, 2.0, limit=limit, key=key) for key in jax.random.split(jax.random.key(2), 1000)]
    counts = np.unique(np.concatenate(drawn), axis=0, return_counts=True)[1]
    assert len(counts) == len(ball)
    # drawing without replacement narrows the spread of the counts by (N - n) / (N - 1)
    narrowed = (len(ball) - limit) / (len(ball) - 1)
    assert chi_square(counts, 1000 * limit / len(ball)) / narrowed < critical(len(ball) - 1)


def test_neighbours_in_a_space_too_large_to_list():
    """Of squared distance 1 there are 2 * 25, of 2 there are 4 * C(25, 2)."""
    near = DIGITS_25.neighbours(np.full(25, 5), 1.5)
    assert len(as_set(near)) == 2 * 25 + 4 * math.comb(25, 2)


# Confinement


@LAW
@given(spaces(), RADII, keys, st.data())
def test_nothing_leaves_a_confined_space(space, radius, key, data):
    rows = everything(space)
    listed = rows[data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=30))]
    members = set(map(tuple, listed.tolist()))
    confined = space.confine(listed)
    assert confined.size == len(members)
    assert confined.product == space.product
    assert as_set(rows[confined.valid(rows)]) == members & admitted(space)
    assert as_set(confined.sample(key, len(rows))) == members & admitted(space)
    assert as_set(confined.sample(key, 3)) <= members
    centre = listed[0]
    assert as_set(confined.neighbours(centre, radius)) == within(members & admitted(space), centre, radius)
    assert as_set(confined.neighbours(centre, radius, limit=5, key=key)) <= members
    assert as_set(confined.sample(key, len(rows), exclude=listed[:3])) == as_set(confined.sample(key, len(rows))) - set(
        map(tuple, listed[:3].tolist())
    )


@LAW
@given(spaces(), st.data())
def test_confining_twice_keeps_what_both_hold(space, data):
    rows = everything(space)
    some = st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=30)
    first, second = rows[data.draw(some)], rows[data.draw(some)]
    confined = space.confine(first).confine(second)
    assert as_set(rows[confined.valid(rows)]) == as_set(
        rows[space.confine(first).valid(rows) & space.confine(second).valid(rows)]
    )


def test_a_space_confined_to_nothing_is_empty():
    empty = DIGITS_12.confine(np.empty((0, 12), np.int32))
    assert empty.size == 0
    assert len(empty.sample(jax.random.key(0), 5)) == 0
    assert not empty.valid(np.zeros((3, 12), np.int32)).any()
    assert not eqx.filter_jit(empty.valid)(jnp.zeros((3, 12), jnp.int32)).any()


@pytest.mark.parametrize("space", [DIGITS_12, DIGITS_25], ids=["1e12", "1e25"])
def test_membership_inside_jit_is_exact_beyond_machine_integers(space):
    members, others = np.split(space.sample(jax.random.key(0), 600), 2)
    confined = space.confine(members)
    close = members.copy()
    close[:, -1] = (close[:, -1] + 1) % 10
    asked = np.concatenate([members, close, others])
    listed = as_set(members)
    expected = [tuple(row) in listed for row in asked.tolist()]
    assert confined.valid(asked).tolist() == expected
    assert eqx.filter_jit(lambda space, knobs: space.valid(knobs))(confined, jnp.asarray(asked)).tolist() == expected


# What is refused

SMALL = KnobSpace([Split("tile_f", 12, 2), Option("unroll", (0, 512))])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"tile_f": (3, 4)}, r"config: its knobs \['tile_f'\] are not .*\['tile_f', 'unroll'\]"),
        ({"tile_f": (3, 4), "unroll": 0, "tile_g": (1, 1)}, "config: .*'tile_g'"),
        ({"tile_f": (3, 5), "unroll": 0}, r"'tile_f': .3, 5. is not a way to write 12"),
        ({"tile_f": (-1, 5), "unroll": 0}, r"'tile_f': .-1, 5. is not a way to write 12"),
        ({"tile_f": (-1, 0), "unroll": 0}, r"'tile_f': .-1, 0. is not a way to write 12"),
        ({"tile_f": (4, -3), "unroll": 0}, r"'tile_f': .4, -3. is not a way to write 12"),
        ({"tile_f": (2, 2, 3), "unroll": 0}, r"'tile_f': .2, 2, 3. is not a way to write 12"),
        ({"tile_f": (), "unroll": 0}, r"'tile_f': .. is not a way to write 12"),
        ({"tile_f": 4, "unroll": 0}, "'tile_f': 4 is not a way to write 12"),
        ({"tile_f": (3, 4), "unroll": 1}, r"'unroll': 1 is not one of \[0, 512\]"),
        ({"tile_f": (3, 4), "unroll": (0, 512)}, r"'unroll': \(0, 512\)"),
    ],
)
def test_impossible_configs_are_refused_by_name(config, message):
    with pytest.raises(ValueError, match=message):
        SMALL.from_config(config)


@pytest.mark.parametrize("space", [SMALL, DIGITS_12, DIGITS_25], ids=["small", "1e12", "1e25"])
@pytest.mark.parametrize("several", [False, True])
def test_foreign_indices_are_refused(space, several):
    for index in (-1, space.product, 10**30, -(10**30)):
        with pytest.raises(ValueError, match=f"index: .*{index}.* is outside 0 .. {space.product - 1}"):
            space.from_index([0, index] if several else index)


def test_foreign_rows_are_refused():
    for row in ([0, 0, 0], [0], 3):
        with pytest.raises(ValueError, match=r"knobs: shape .* must end in 2"):
            SMALL.to_index(np.array(row))
    for row in ([0, 2], [-1, 0], [6, 0]):
        with pytest.raises(ValueError, match=r"knobs: .*\[6, 2\]"):
            SMALL.to_index(np.array(row))
        with pytest.raises(ValueError, match="knobs"):
            SMALL.confine(np.array([[0, 0], row]))


def test_impossible_spaces_are_refused():
    tile = Split("tile_f", 12, 2)
    with pytest.raises(ValueError, match=r"knobs: .*distinct"):
        KnobSpace([tile, tile])
    with pytest.raises(ValueError, match=r"knobs: .*at least one"):
        KnobSpace([])
    with pytest.raises(ValueError, match=r"encoding: 'ln' .*'log2' and 'raw'"):
        KnobSpace([tile], encoding="ln")
    with pytest.raises(ValueError, match="parts: each must have the options of all 1 knobs"):
        KnobSpace([tile], parts=[((0,), (1,))])
    for extent, ways in ((0, 2), (12, 0)):
        with pytest.raises(ValueError, match=f"'tile_f': extent {extent} and ways {ways}"):
            Split("tile_f", extent, ways)
    impossible: list[tuple] = [(), (1, 1), ("a", "b")]
    for values in impossible:
        with pytest.raises(ValueError, match="Option 'unroll': values"):
            Option("unroll", values)
    with pytest.raises(ValueError, match=r"Option 'winograd': absent 3 is not one of \[0, 2\]"):
        Option("winograd", (0, 2), absent=3)


def test_impossible_questions_are_refused():
    with pytest.raises(ValueError, match="n: -1"):
        SMALL.sample(jax.random.key(0), -1)
    with pytest.raises(ValueError, match="key: needed with `limit`"):
        SMALL.neighbours(np.array([0, 0]), 2.0, limit=3)
    with pytest.raises(ValueError, match="radius: -2"):
        SMALL.neighbours(np.array([0, 0]), -2.0)


def test_an_option_need_not_be_named_where_its_absence_has_a_meaning():
    space = KnobSpace([Split("tile_f", 12, 2), Option("winograd", (0, 2), absent=0)])
    assert space.from_config({"tile_f": (3, 4)}).tolist() == space.from_config({"tile_f": (3, 4), "winograd": 0}).tolist()
