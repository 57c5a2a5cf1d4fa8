"""What was measured before: the measurements of one other task, for the methods that learn from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from search.space import KnobSpace


@dataclass(frozen=True)
class Source:
    """Measurements of one task.

    - `name`: the task's name.
    - `space`: its knobs; another task's splits have other extents, so configurations are compared by their features.
    - `knobs`: what was measured, one row a configuration.
    - `throughput`: GFLOPS of each row, 0.0 where it failed.
    """

    name: str
    space: KnobSpace
    knobs: Int[np.ndarray, "n knobs"]
    throughput: Float[np.ndarray, " n"]
