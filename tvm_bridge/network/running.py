"""Compiled networks in a process of their own, whose threads are those of their target and whose crash costs nobody else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from tvm_bridge.measure.base import DeviceError
from tvm_bridge.measure.complaints import complaint
from tvm_bridge.measure.jobs import Unreachable
from tvm_bridge.measure.process import Worker
from tvm_bridge.network import jobs

if TYPE_CHECKING:
    from tvm_bridge.network.compile import CompiledNetwork

LIMIT = 900.0
"""Seconds that one call may take."""


class Running:
    """Networks with the same inputs and target, loaded in another process; a context manager.

    **Arguments:**

    - `networks`: the compiled networks.

    **Raises:** `ValueError` for networks with other inputs or another target than the first, or for another kind of machine;
    on entering `DeviceError` if their device is not here.
    """

    def __init__(self, networks: Sequence[CompiledNetwork]) -> None:
        self._first = networks[0]
        for place, each in enumerate(networks):
            if (each.inputs, each.target) != (self._first.inputs, self._first.target):
                raise ValueError(f"networks: number {place} has other inputs or another target than the first.")
        if "mtriple" in dict(self._first.target.attributes):
            raise ValueError(f"networks: what is compiled for {self._first.target} cannot run on this machine.")
        self._networks = networks
        self._folder = tempfile.TemporaryDirectory()
        self._paths = [os.path.join(self._folder.name, f"{place}.so") for place in range(len(networks))]
        self._worker = Worker({"TVM_NUM_THREADS": str(self._first.target.threads)})

    def __enter__(self) -> Self:
        try:
            for each, path in zip(self._networks, self._paths, strict=True):
                each.save(path)
            if isinstance(absent := self.call(jobs.device), Unreachable):
                raise DeviceError(f"networks: they cannot run here: {absent.message}.")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.stop()
        self._folder.cleanup()

    def call(self, job: Callable[..., Any], *arguments: Any) -> Any:
        """The value of `job(paths of the libraries, inputs, kind of device, *arguments)` in the process.

        **Raises:** `RuntimeError` if a network does not run.
        """
        fixed = self._paths, self._first.inputs, self._first.target.kind
        answer = self._worker.call(job, *fixed, *arguments, limit=LIMIT)
        if answer.failure:
            raise RuntimeError(f"networks: a compiled network does not run: {answer.failure}, {complaint(answer.message)}")
        return answer.value
