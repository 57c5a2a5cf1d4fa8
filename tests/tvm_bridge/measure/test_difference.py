"""A wrong number is found, however few there are; rounding is not wrong."""

import numpy as np
import pytest

from tvm_bridge.measure.difference import difference


def test_what_is_no_number_must_be_the_same():
    expected = np.array([np.nan, np.inf, -np.inf, 2.0], np.float32)
    assert difference(expected.copy(), expected) == ""
    for place, value in ((0, 1.0), (1, np.nan), (1, -np.inf), (2, 3.0), (3, np.nan), (3, 2.01)):
        result = expected.copy()
        result[place] = value
        assert difference(result, expected).startswith("1 of 4 results are wrong")


@pytest.mark.parametrize("place", [(0, 0), (2, 1)])
@pytest.mark.parametrize("value", [np.nan, 1.0])
def test_one_wrong_number_is_found(place, value):
    expected = np.zeros((3, 2), np.float32)
    result = expected.copy()
    assert difference(result, expected) == ""
    result[place] = value
    assert difference(result, expected).startswith(f"1 of 6 results are wrong; at {place}")


def test_products_of_rounded_factors_may_be_less_exact():
    """By as much as their number lets them be, and no more."""
    expected = np.full(4, 2.0, np.float32)
    for terms, most in ((0, 2e-4), (64, 2**-10 * 20), (4096, 2**-10 * 160)):
        assert difference(np.full(4, 2.0 + 0.9 * most, np.float32), expected, tf32_terms=terms) == ""
        assert difference(np.full(4, 2.0 + 1.1 * most, np.float32), expected, tf32_terms=terms).startswith(
            "4 of 4 results are wrong"
        )
