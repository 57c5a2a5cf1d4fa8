"""Whether a kernel has computed what it should: its result beside the reference."""

from __future__ import annotations

import math

import numpy as np

FLOAT32 = 1e-4
"""The largest error of sums in float32, in any order, as a share of the largest result: of thousands of products it is 1e-5."""

TF32 = 2**-10
"""The largest error of a product of two factors that are rounded to TF32, as a share of it."""


def difference(result: np.ndarray, expected: np.ndarray, *, tf32_terms: int = 0) -> str:
    """How a result differs from the reference, or nothing.

    Where the reference is no number, as the logarithm of a negative one, the result must be the same.

    **Arguments:**

    - `tf32_terms`: K, where each result is the sum of so many products of inputs uniform in (-1, 1) that are rounded to TF32.
      Their errors are independent: but for one sum in a million million (Hoeffding) the error of the sum is less than 7.5 times
      `TF32` times the root of the sum of their squares, which is sqrt(K) / 3.
    """
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0)) or 1.0
    tolerance = TF32 * max(scale, 2.5 * math.sqrt(tf32_terms)) if tf32_terms else FLOAT32 * scale
    with np.errstate(invalid="ignore"):  # infinity less infinity
        close = np.abs(result - expected) <= tolerance
    wrong = ~(close | (result == expected) | (np.isnan(result) & np.isnan(expected)))
    if not wrong.any():
        return ""
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{wrong.sum()} of {wrong.size} results are wrong; at {place} it gave {result[place]:.6g}, not {expected[place]:.6g}"
