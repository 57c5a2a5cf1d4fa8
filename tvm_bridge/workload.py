"""Workloads: what an operator computes, apart from how; a file for each kind, and one line in `WORKLOADS`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np

from tvm_bridge import convolution
from tvm_bridge.convolution import Conv2d
from tvm_bridge.dense import Dense


class Workload(Protocol):
    """What the bridge asks of any operator with two inputs, data and weight. Immutable and hashable."""

    @property
    def operator(self) -> str:
        """The operator's name in records and in the registry of templates."""
        ...

    @property
    def summary(self) -> str:
        """The operator and its shape in a few words."""
        ...

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Shapes of data, weight and output."""
        ...

    @property
    def flop(self) -> int:
        """Floating-point operations of the direct algorithm."""
        ...

    @property
    def args(self) -> list[Any]:
        """AutoTVM's task arguments."""
        ...

    @classmethod
    def from_args(cls, name: str, args: Sequence[Any]) -> Self:
        """Read AutoTVM's task arguments; `ValueError` if they are not the operator's."""
        ...

    def prim_func(self) -> Any:
        """The operator as TVM's own PrimFunc `(data, weight, output)`."""
        ...

    def reference(self, data: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """The result by NumPy."""
        ...


WORKLOADS: dict[str, type[Workload]] = {**dict.fromkeys(convolution.OPERATORS, Conv2d), "dense": Dense}
"""The kind of workload of each operator's name."""


def from_args(operator: str, args: Sequence[Any]) -> Workload:
    """Read an operator's AutoTVM task arguments.

    **Raises:** `ValueError` if there is no such operator, or the arguments are not its own.
    """
    if operator not in WORKLOADS:
        raise ValueError(f"operator: {operator!r} is not one of {', '.join(WORKLOADS)}.")
    return WORKLOADS[operator].from_args(operator, args)
