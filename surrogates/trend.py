"""What another surrogate's score says of a task, as far as the task's own measurements bear it out."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from surrogates.base import Arrays, Prediction, Scorer, Surrogate, check_positive, checked, checked_points, fitted, traced
from surrogates.chunks import in_chunks, scores


class Trend(Surrogate):
    r"""A line through a known score, $f(x) = a + b\, s(x)$, whose slope has to be earned.

    What was learned of other tasks may rank this one's configurations well, or badly, or the wrong way round: its weight must
    not be fixed. Of standardised targets and scores the slope is the ridge estimate that shrinks towards a middling one,

    $$ b = \frac{\sum_i s_i y_i + \lambda b_0}{\sum_i s_i^2 + \lambda}, $$

    as if $\lambda$ points had been seen that agree with $b_0$. There is no doubt: a `Residual` on top of it has one.

    **Arguments:**

    - `base`: a fitted surrogate, whose score is used.
    - `slope`, `weight`: $b_0$ and $\lambda$.
    - `state`: the line; None until adapted.

    **Raises:** `ValueError` if $\lambda$ is not above 0.
    """

    base: Surrogate
    slope: float = eqx.field(static=True, default=0.5)
    weight: float = eqx.field(static=True, default=4.0)
    state: Line | None = None

    def __check_init__(self) -> None:
        check_positive(self, "weight")

    def fit(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Fit the base, then the line."""
        return replace(self, base=self.base.fit(x, y, key=key)).adapt(x, y, key=key)

    def adapt(self, x: Float[Arrays, "n d"], y: Float[Arrays, " n"], *, key: PRNGKeyArray) -> Self:
        """Find the line of a task of which n points are known; the base stays as it is, and `key` is not used."""
        points, targets = checked(x, y, least=1)
        score = scores(self.base.scorer(), points).astype(float)
        unit, scale = score.std() or 1.0, targets.std()
        centred = (score - score.mean()) / unit
        slope = (centred @ (targets - targets.mean()) + self.weight * self.slope * scale) / (centred @ centred + self.weight)
        slope /= unit
        line = Line(jnp.float32(slope), jnp.float32(targets.mean() - slope * score.mean()))
        return replace(self, state=line)

    def predict(self, x: Float[Arrays, "n d"]) -> Prediction:
        """The line's values, and 0 for the doubt it does not have."""
        scorer = self.scorer()
        if traced(x):
            mean = in_chunks(scorer, jnp.asarray(x))
            return Prediction(mean, jnp.zeros_like(mean))
        score = scores(scorer, checked_points(x))
        return Prediction(*jax.device_put((score, np.zeros_like(score))))

    def scorer(self) -> LineScorer:
        """The line's values."""
        fitted(self, self.state)
        assert self.state is not None
        return LineScorer(self.base.scorer(), self.state)


class Line(eqx.Module):
    """Slope and offset."""

    slope: Float[Array, ""]
    offset: Float[Array, ""]


class LineScorer(eqx.Module):
    """A line through a scorer's values."""

    scorer: Scorer
    line: Line

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """The values at n points."""
        return self.line.offset + self.line.slope * self.scorer(x)
