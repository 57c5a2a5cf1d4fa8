"""Networks that take turns compute the same, as closely as their precision allows."""

import numpy as np
import pytest

from experiments.network_turns import TF32_TOLERANCE, _compare
from tvm_bridge.network.compile import TOLERANCE


@pytest.mark.parametrize("reference", ["untuned", "pytorch"])
def test_what_computes_something_else_is_told(reference):
    right = np.array([[1.0, -4.0]])
    outputs = {"untuned": right, **({"pytorch": right} if reference == "pytorch" else {})}
    _compare("small", outputs | {"gausstune, 20": right + 3 * TOLERANCE}, set())  # of the largest, 4
    with pytest.raises(RuntimeError, match=f"^small: gausstune, 20 differs from {reference} by 0.0012 of the largest output"):
        _compare("small", outputs | {"gausstune, 20": right + 5 * TOLERANCE}, set())


def test_what_is_rounded_may_differ_more():
    right = np.array([[1.0, -4.0]])
    outputs = {"untuned": right, "pytorch": right, "pytorch, TF32": right + 3 * TF32_TOLERANCE}
    _compare("small", outputs, {"pytorch, TF32"})
    with pytest.raises(RuntimeError, match="pytorch, TF32 differs"):
        _compare("small", outputs, set())


def test_what_is_no_number_is_told():
    outputs = {"untuned": np.ones(2), "gausstune, 20": np.array([1.0, np.nan])}
    with pytest.raises(RuntimeError, match="by nan of the largest"):
        _compare("small", outputs, set())
