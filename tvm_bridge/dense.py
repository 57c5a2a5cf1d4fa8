"""Matrix products as workloads, TOPI's `dense`, written and read as AutoTVM's task arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

OPERATOR = "dense"


@dataclass(frozen=True)
class Dense:
    """The product of data with the transposed weight: a fully connected layer.

    - `data`: (N, K), a row for each of N inputs.
    - `weight`: (M, K), a row for each of M outputs.
    """

    data: tuple[int, int]
    weight: tuple[int, int]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if min(*self.data, *self.weight) < 1:
            raise ValueError(f"dense: extents of {self} must be positive.")
        if self.data[1] != self.weight[1]:
            raise ValueError(f"weight: shape {self.weight} does not fit data {self.data}; it must be (M, {self.data[1]}).")
        if self.dtype != "float32":
            raise ValueError(f"dtype: {self.dtype!r} is not supported; use 'float32'.")

    @property
    def operator(self) -> str:
        """The operator's name in records and in the registry of templates."""
        return OPERATOR

    @property
    def summary(self) -> str:
        """The product in a few words: "dense 512 → 1000"."""
        return f"dense {self.weight[1]} → {self.weight[0]}"

    @property
    def output(self) -> tuple[int, int]:
        """(N, M) of the result."""
        return self.data[0], self.weight[0]

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Shapes of data, weight and output."""
        return self.data, self.weight, self.output

    @property
    def flop(self) -> int:
        """Floating-point operations: a multiplication and an addition for every weight and row of data."""
        return 2 * self.data[0] * self.weight[0] * self.weight[1]

    @property
    def args(self) -> list[Any]:
        """AutoTVM's task arguments: data, weight, no bias, dtype of the result."""
        return [*(["TENSOR", list(shape), self.dtype] for shape in (self.data, self.weight)), None, self.dtype]

    @classmethod
    def from_args(cls, name: str, args: Sequence[Any]) -> Dense:
        """Read AutoTVM's task arguments.

        **Raises:** `ValueError` if they are not those of a product without bias.
        """
        try:
            if name != OPERATOR:
                raise ValueError(f"the operator is {OPERATOR}")
            (_, (rows, depth), dtype), (_, (columns, weight_depth), _), bias, result = args
            if bias is not None:
                raise ValueError("a bias is not part of the product but an epilogue of its function")
            if result not in (None, dtype):
                raise ValueError(f"a result of another dtype, {result!r}, is not supported")
            return cls((rows, depth), (columns, weight_depth), dtype)
        except (TypeError, ValueError) as error:
            raise ValueError(f"args: {args!r} are not the arguments of {name}: {error}") from error

    def prim_func(self) -> Any:
        """The operator as TVM's own PrimFunc `(data, weight, output)`."""
        from tvm import te, topi

        data = te.placeholder(self.data, self.dtype, name="data")
        weight = te.placeholder(self.weight, self.dtype, name="weight")
        return te.create_prim_func([data, weight, topi.nn.dense(data, weight)])

    def reference(self, data: Float[np.ndarray, "n k"], weight: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "n m"]:
        """The result by NumPy."""
        return data @ weight.T
