"""Numbers as they are written."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_bridge.report import numbers

NARROW = "\u202f"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.figure(0), "0"),
        (numbers.figure(0.01234), "0.0123"),
        (numbers.figure(4.557), "4.56"),
        (numbers.figure(452.4), "452"),
        (numbers.figure(12345.6), f"12{NARROW}346"),
        (numbers.figure(math.inf), "–"),
        (numbers.times(2), "2.00×"),
        (numbers.percent(0.0004), f"< 0.1{NARROW}%"),
        (numbers.percent(0.043), f"4.3{NARROW}%"),
        (numbers.percent(1), f"100{NARROW}%"),
        (numbers.number(1, "run"), "1 run"),
        (numbers.number(1600, "run"), f"1{NARROW}600 runs"),
        (numbers.latency(511e-6), f"511{NARROW}µs"),
        (numbers.latency(0.0123), f"12.3{NARROW}ms"),
        (numbers.latency(0.02, 1), f"20{NARROW}ms"),
        (numbers.spread(12.34e-3, 0.4e-3), f"12.3 ± 0.4{NARROW}ms"),
        (numbers.spread(244e-3, 11e-3), f"244 ± 11{NARROW}ms"),
        (numbers.duration(0.84), "0.8 s"),
        (numbers.duration(59.7), "1 min 00 s"),
        (numbers.duration(860), "14 min 20 s"),
        (numbers.duration(7500), "2 h 05 min"),
        (numbers.date(1650000000), "2022-04-15 05:20 UTC"),
    ],
)
def test_examples(written, expected):
    assert written == expected


@given(st.floats(1e-9, 1e6))
def test_a_column_shows_a_digit_of_its_smallest_time(smallest):
    size, _, decimals = numbers.column([smallest, 1e6])
    assert float(numbers.fixed(smallest / size, decimals).replace(NARROW, "")) > 0


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_number_can_be_written(value):
    assert len(numbers.figure(value)) < 16
