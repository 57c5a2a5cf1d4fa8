"""Batch normalisation at inference is a scale and a shift, which a convolution before it takes into its weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np


def fold_batch_norm(module: Any) -> Any:
    """Replace every batch normalisation whose parameters are constants.

    After a convolution with constant weights whose result nothing else reads, the scale goes into the weights and a shift by
    channel remains; elsewhere a scale and a shift remain.

    **Arguments:**

    - `module`: an IRModule of Relax operators, before `LegalizeOps`; TVM's `FoldBatchnormToConv2D` knows OIHW weights alone and
      leaves constants to be compiled one by one.
    """
    import tvm
    from tvm.relax.dpl import TupleGetItemPattern, is_const, is_op, rewrite_call, wildcard

    data, parameters = wildcard(), [is_const() for _ in range(4)]
    normalised = is_op("relax.nn.batch_norm")(data, *parameters)
    function = module["main"]
    readers = _readers(function)

    def folded(expression: Any, matches: Any) -> Any:
        attributes = matches[normalised].attrs
        if attributes.training:
            return expression
        gamma, beta, mean, variance = (matches[each].value.numpy() for each in parameters)
        scale = (gamma if attributes.scale else 1) / np.sqrt(variance + attributes.epsilon)
        shift = (beta if attributes.center else 0) - mean * scale
        return _scaled(matches[data], scale, shift, int(attributes.axis), readers)

    folded_function = rewrite_call(TupleGetItemPattern(normalised, 0), folded, function)
    result = tvm.IRModule(module.functions, module.attrs)
    result.update_func(module.get_global_var("main"), folded_function)
    return result


def _scaled(data: Any, scale: np.ndarray, shift: np.ndarray, axis: int, readers: Counter[Any]) -> Any:
    """`data * scale + shift` along an axis, computed by the convolution before it where that is possible."""
    from tvm import relax

    def along(values: np.ndarray, rank: int, place: int) -> np.ndarray:
        return values.astype(str(data.ty.dtype)).reshape([-1 if each == place % rank else 1 for each in range(rank)])

    rank = len(data.ty.shape)
    if _is_convolution(data) and readers[data] == 1 and hasattr(data.args[1], "value"):
        weight = data.args[1].value.numpy()
        place = data.attrs.kernel_layout.index("O")
        scaled = relax.const(weight * along(scale, weight.ndim, place))
        product = relax.Call(data.op, (data.args[0], scaled), data.attrs)
    else:
        product = relax.op.multiply(data, relax.const(along(scale, rank, axis)))
    return relax.op.add(product, relax.const(along(shift, rank, axis)))


def _is_convolution(expression: Any) -> bool:
    return getattr(getattr(expression, "op", None), "name", "") == "relax.nn.conv2d"


def _readers(function: Any) -> Counter[Any]:
    """How often the value of each binding is read."""
    from tvm.relax.expr_functor import PyExprVisitor, visitor

    values: dict[Any, Any] = {}
    readers: Counter[Any] = Counter()

    @visitor
    class Readers(PyExprVisitor):
        def visit_var_binding_(self, binding: Any) -> None:
            values[binding.var] = binding.value
            self.visit_expr(binding.value)

        def visit_var_(self, variable: Any) -> None:
            readers[values.get(variable, variable)] += 1

        def visit_dataflow_var_(self, variable: Any) -> None:
            self.visit_var_(variable)

    Readers().visit_expr(function)
    return readers
