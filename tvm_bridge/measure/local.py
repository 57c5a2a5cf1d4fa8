"""Measuring on this machine: a pool of builder processes and one isolated runner."""

from __future__ import annotations

from tvm_bridge.measure.compiling import Compiling
from tvm_bridge.measure.jobs import Timing
from tvm_bridge.measure.pipeline import Limits


class Local(Compiling):
    """Builds and measures on this machine's CPU or first GPU.

    **Arguments:**

    - `number`, `repeat`, `min_repeat_ms`: a time is the mean of at least `number` runs and `min_repeat_ms` milliseconds, and
      `repeat` times are taken.
    - `warmup`: runs before the first time.
    - `cache_flush`: empty the CPU's caches before each time, which is a single run then.
    - `check`: compare each kernel's result with the reference; a wrong one counts as failed (category 5).
    - `build_limit`, `run_limit`: seconds a candidate may take, counted from when its build or run starts.
    - `builders`: processes that compile; as many as there are cores, up to 16, if None.
    """

    def __init__(
        self,
        *,
        number: int = 1,
        repeat: int = 3,
        min_repeat_ms: int = 100,
        warmup: int = 1,
        cache_flush: bool = False,
        check: bool = True,
        build_limit: float = 10.0,
        run_limit: float = 10.0,
        builders: int | None = None,
    ) -> None:
        super().__init__(
            tracker=None,
            timing=Timing(number, repeat, min_repeat_ms, warmup, cache_flush, check),
            limits=Limits(build_limit, run_limit),
            builders=builders,
        )
