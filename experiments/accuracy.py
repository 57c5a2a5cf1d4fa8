"""How good a prediction is, judged on points that were measured and not learned from."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri
from scipy.stats import rankdata

INTERVAL = 0.9
TOP = 0.05
PICKED = 20

COLUMNS = {
    "rmse": "RMSE over the standard deviation",
    "spearman": "rank correlation",
    "recall": "recall of the top 5 %",
    "best20": "best of the top 20, share of the best",
    "coverage": "share of points in the 90 % interval",
    "nlpd": "negative log predictive density, of targets over their deviation",
}
"""What is judged; lower is better for `rmse` and `nlpd`, `coverage` should be 0.9, higher is better for the others."""


def judged(
    score: Float[np.ndarray, " n"],
    mean: Float[np.ndarray, " n"],
    std: Float[np.ndarray, " n"] | None,
    y: Float[np.ndarray, " n"],
) -> dict[str, float]:
    """Every figure of `COLUMNS`; the last two are left out where `std` is None: a model without doubt has no intervals.

    **Arguments:**

    - `score`: what a search ranks by.
    - `mean`, `std`: of the normal predictive distribution of each measurement, noise included.
    - `y`: what was measured.
    """
    unit = float(y.std()) or 1.0
    best = max(1, round(TOP * len(y)))
    order, truth = np.argsort(-score, kind="stable"), np.argsort(-y, kind="stable")
    figures = {
        "rmse": float(np.sqrt(np.mean((mean - y) ** 2))) / unit,
        "spearman": _correlation(rankdata(score), rankdata(y)),
        "recall": len(np.intersect1d(order[:best], truth[:best])) / best,
        "best20": float(y[order[:PICKED]].max() / y.max()),
    }
    if std is not None:
        deviations = np.abs(y - mean) / std
        figures["coverage"] = float((deviations < ndtri(0.5 + INTERVAL / 2)).mean())
        figures["nlpd"] = float(np.mean(0.5 * deviations**2 + np.log(std / unit) + 0.5 * np.log(2 * np.pi)))
    return figures


def _correlation(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> float:
    """Pearson's correlation; 0 where either does not vary."""
    return float(np.corrcoef(one, other)[0, 1]) if np.ptp(one) and np.ptp(other) else 0.0
