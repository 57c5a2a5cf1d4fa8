"""Measuring by looking up what was recorded: methods run without the hardware."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

from tvm_bridge.measure.base import ErrorCategory, Measurement, Measurer

if TYPE_CHECKING:
    from search.knobs import Config
    from tvm_bridge.task import Task


class Replay(Measurer):
    """Answers with recorded measurements.

    **Arguments:**

    - `recorded`: the measurement of each index.
    - `device`: the name of the device they were made on.
    - `missing`: what to do about a configuration that was not recorded: "error", or "fail" to count it as failed (category 8).
    """

    has_default = False

    def __init__(self, recorded: Mapping[int, Measurement], *, device: str = "", missing: str = "error") -> None:
        if missing not in ("error", "fail"):
            raise ValueError(f"missing: {missing!r} is neither 'error' nor 'fail'.")
        self._recorded, self._device, self._missing = dict(recorded), device, missing

    def device(self, task: Task) -> str:
        """The device of the records."""
        return self._device

    def stream(self, task: Task, configs: Sequence[Config | None]) -> Generator[tuple[int, Measurement]]:
        """Yield what was recorded, in order.

        **Raises:** `LookupError` for a configuration that was not recorded, if those are errors.
        """
        for position, config in enumerate(configs):
            index = None if config is None else task.space.to_index(task.space.from_config(config))
            if index in self._recorded:
                yield position, self._recorded[index]
            elif self._missing == "fail":
                yield position, Measurement((), ErrorCategory.UNKNOWN, "not recorded", device=self._device)
            else:
                what = "TVM's default schedule" if config is None else f"configuration {index}"
                raise LookupError(
                    f"{task.name}: {what} was not recorded; propose only from task.space, or replay with missing='fail'."
                )
