"""StableHLO, which JAX exports, as Relax.

TVM 0.27 has an importer of its own, `relax.frontend.stablehlo`, but it calls what JAX 0.10 no longer has; it reads no function
calls, of which each `jax.nn.relu` is one; and it pads every pooling by one, takes the groups of a convolution from another
attribute and its padding from one dimension, and ignores the axes of a broadcast. Here, what is not read right is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters.mlir import make_ir_context
from tvm import IRModule, relax

from tvm_bridge.network.stablehlo_operators import ELEMENTWISE, OPERATORS, constant, dtype, shape

CALLS = {"func.call": "callee", "stablehlo.composite": "decomposition"}
"""The operations that call a function, and the attribute that names it."""

CONTROL = (*CALLS, "func.return", "stablehlo.broadcast_in_dim", "stablehlo.constant")
"""What is read here, beside the operators."""


def from_text(text: str) -> IRModule:
    """Read StableHLO as MLIR's text.

    **Raises:** `ValueError` if it is not StableHLO, or uses what is not supported.
    """
    return _read(lambda context: ir.Module.parse(text, context))


def from_artifact(artifact: bytes) -> IRModule:
    """Read StableHLO's portable artifact; raises as `from_text` does."""
    return _read(lambda context: stablehlo.deserialize_portable_artifact(context, artifact))


def _read(parse: Callable[[Any], Any]) -> IRModule:
    try:
        module = parse(make_ir_context())
    except ir.MLIRError as error:
        raise ValueError(f"it is not StableHLO: {error}") from error
    return _Reader(module).read()


class _Reader:
    """Translates a module's function "main", and what it calls, into one Relax function.

    A broadcast value stays small as long as only elementwise operations use it, which broadcast by themselves.
    """

    def __init__(self, module: Any) -> None:
        functions = [each for each in module.body.operations if each.operation.name == "func.func"]
        self._blocks = {
            ir.StringAttr(each.operation.attributes["sym_name"]).value: each.regions[0].blocks[0] for each in functions
        }
        self._builder = relax.BlockBuilder()

    def read(self) -> IRModule:
        if "main" not in self._blocks:
            raise ValueError(f"its functions are {', '.join(self._blocks)}; one must be 'main'")
        arguments = self._blocks["main"].arguments
        inputs = [relax.Var(f"arg{place}", relax.TensorType(shape(each), dtype(each))) for place, each in enumerate(arguments)]
        supported = {*CONTROL, *ELEMENTWISE, *OPERATORS}
        used = {each.operation.name for block in self._blocks.values() for each in block.operations}
        if used - supported:
            raise ValueError(
                f"{', '.join(sorted(used - supported))} not supported; supported are {', '.join(sorted(supported))}"
            )
        with self._builder.function("main", inputs):
            with self._builder.dataflow():
                results = self._call("main", inputs)
                output = self._builder.emit_output(results[0] if len(results) == 1 else relax.Tuple(results))
            self._builder.emit_func_output(output)
        return self._builder.get()

    def _call(self, name: str, arguments: Sequence[Any]) -> list[Any]:
        """The results of a function, whose operations are written where it is called."""
        block = self._blocks[name]
        values = dict(zip(block.arguments, arguments, strict=True))
        for each in block.operations:
            operation = each.operation
            small = [values[operand] for operand in operation.operands]
            if operation.name in ELEMENTWISE:
                values[operation.result] = self._builder.emit(ELEMENTWISE[operation.name](operation, *small))
            elif operation.name == "stablehlo.constant":
                values[operation.result] = constant(operation)
            elif operation.name == "stablehlo.broadcast_in_dim":
                values[operation.result] = self._aligned(operation, *small)
            elif operation.name in CALLS:
                callee = ir.FlatSymbolRefAttr(operation.attributes[CALLS[operation.name]]).value
                values.update(zip(operation.results, self._call(callee, small), strict=True))
            else:
                full = [self._full(operand, value) for operand, value in zip(operation.operands, small, strict=True)]
                if operation.name == "func.return":
                    return full
                values[operation.result] = self._builder.emit(OPERATORS[operation.name](operation, *full))
        raise ValueError(f"its function {name!r} does not return")

    def _aligned(self, operation: Any, data: Any) -> Any:
        """The operand of a broadcast with the rank of its result, whose axes that are not the operand's have extent 1."""
        axes = list(ir.DenseI64ArrayAttr(operation.attributes["broadcast_dimensions"]))
        if axes != sorted(axes):
            raise ValueError(f"broadcast_in_dim with the axes {axes}, which transpose, is not supported")
        extents = [1] * len(shape(operation.result))
        for axis, extent in zip(axes, data.ty.shape, strict=False):  # a scalar kept small has none
            extents[axis] = int(extent)
        if not axes or len(extents) == len(data.ty.shape):
            return data
        return self._builder.emit(relax.op.reshape(data, extents))

    def _full(self, operand: Any, data: Any) -> Any:
        """A value in the shape of its type."""
        extents = shape(operand)
        if tuple(int(extent) for extent in data.ty.shape) == extents:
            return data
        return self._builder.emit(relax.op.broadcast_to(data, extents))
