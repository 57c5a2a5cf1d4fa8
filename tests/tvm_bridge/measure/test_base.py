"""A measurement is a time or a failure."""

import pytest

from tvm_bridge.measure.base import ErrorCategory, Measurement


def test_the_cost_is_the_median_of_what_worked():
    assert Measurement((3.0, 1.0, 2.0)).cost == 2.0
    assert Measurement((), ErrorCategory.RUN_TIMEOUT).cost == float("inf")


@pytest.mark.parametrize(
    ("seconds", "error"), [((), ErrorCategory.NO_ERROR), ((1.0,), ErrorCategory.WRONG_ANSWER)], ids=["neither", "both"]
)
def test_neither_and_both_are_refused(seconds, error):
    with pytest.raises(ValueError, match=f"seconds, error: .* and {error.name} contradict each other"):
        Measurement(seconds, error)
