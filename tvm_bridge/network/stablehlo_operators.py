"""StableHLO's operators as Relax's, each from the operation and its operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo
from tvm import relax
from tvm.ir import GenericConst

Operator = Callable[..., Any]

DTYPES = {"f16": "float16", "f32": "float32", "f64": "float64", "i1": "bool"}
DTYPES |= {f"{sign}{bits}": f"{kind}{bits}" for sign, kind in (("i", "int"), ("ui", "uint")) for bits in (8, 16, 32, 64)}


def shape(value: Any) -> tuple[int, ...]:
    """The shape of a value's type.

    **Raises:** `ValueError` if it is dynamic.
    """
    tensor = ir.RankedTensorType(value.type)
    if not tensor.has_static_shape:
        raise ValueError(f"a value has the dynamic shape {tensor}; export the function for shapes of numbers alone")
    return tuple(tensor.shape)


def dtype(value: Any) -> str:
    """The dtype of a value's type, by TVM's name.

    **Raises:** `ValueError` if it is none of `DTYPES`.
    """
    element = str(ir.RankedTensorType(value.type).element_type)
    if element not in DTYPES:
        raise ValueError(f"the type {element} is not supported; supported are {', '.join(DTYPES)}")
    return DTYPES[element]


def constant(operation: Any) -> Any:
    """A constant with its value."""
    value = operation.attributes["value"]
    if dtype(operation.result) == "bool":
        bits: Any = ir.DenseIntElementsAttr(value)
        flags = [bool(each) for each in bits]
        return relax.const(np.reshape(flags, shape(operation.result)), "bool")
    return relax.const(np.array(ir.DenseElementsAttr(value), dtype(operation.result)), dtype(operation.result))


def _numbers(operation: Any, name: str, default: Sequence[int]) -> list[int]:
    """An attribute that is a list of numbers, or its default if it is not written."""
    if name not in operation.attributes:
        return list(default)
    attribute = operation.attributes[name]
    if isinstance(attribute, ir.DenseElementsAttr):
        return np.array(attribute).ravel().tolist()
    return [int(each) for each in attribute]


def _refuse(operation: Any, what: str, unless: bool) -> None:
    if not unless:
        raise ValueError(f"{operation.name} with {what} is not supported: {operation}")


def _scalar(operation: Any, value: Any) -> float:
    """The number that an operand always is."""
    _refuse(operation, "a value that is not a constant", isinstance(value, GenericConst))
    return float(value.value.numpy().reshape(-1)[0])


def _convolution(operation: Any, data: Any, weight: Any) -> Any:
    axes = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
    _refuse(operation, "other than two spatial dimensions", len(axes.input_spatial_dimensions) == 2)
    data_layout = _layout(axes.input_batch_dimension, axes.input_feature_dimension, axes.input_spatial_dimensions, "NCHW")
    out_layout = _layout(axes.output_batch_dimension, axes.output_feature_dimension, axes.output_spatial_dimensions, "NCHW")
    _refuse(operation, "a result laid out otherwise than its data", data_layout == out_layout)
    kernel_axes = axes.kernel_output_feature_dimension, axes.kernel_input_feature_dimension, axes.kernel_spatial_dimensions
    kernel_layout = _layout(*kernel_axes, "OIHW")
    _refuse(operation, "dilated data", set(_numbers(operation, "lhs_dilation", ())) <= {1})
    _refuse(operation, "reversed windows", not any(_numbers(operation, "window_reversal", ())))
    _refuse(operation, "groups of the batch", ir.IntegerAttr(operation.attributes["batch_group_count"]).value == 1)
    top, bottom, left, right = _numbers(operation, "padding", (0,) * 4)
    _refuse(operation, "negative padding", min(top, bottom, left, right) >= 0)
    groups = ir.IntegerAttr(operation.attributes["feature_group_count"]).value
    if kernel_layout == "HWIO" and groups == weight.ty.shape[3]:  # as TVM lays the weights of depthwise convolutions
        weight, kernel_layout = relax.op.permute_dims(weight, (0, 1, 3, 2)), "HWOI"
    return relax.op.nn.conv2d(
        data,
        weight,
        _numbers(operation, "window_strides", (1, 1)),
        (top, left, bottom, right),
        _numbers(operation, "rhs_dilation", (1, 1)),
        groups,
        data_layout,
        kernel_layout,
    )


def _layout(first: int, second: int, spatial: Sequence[int], names: str) -> str:
    """The names of four axes in the order in which they lie."""
    places = dict(zip((first, second, *spatial), names, strict=True))
    return "".join(places[place] for place in range(4))


def _dot_general(operation: Any, left: Any, right: Any) -> Any:
    """A product of matrices, of which there may be several: axes that are summed over, and the others, become one each."""
    axes = stablehlo.DotDimensionNumbers(operation.attributes["dot_dimension_numbers"])
    batch = list(axes.lhs_batching_dimensions), list(axes.rhs_batching_dimensions)
    summed = list(axes.lhs_contracting_dimensions), list(axes.rhs_contracting_dimensions)
    taken = batch[0] + summed[0], batch[1] + summed[1]
    free = [[axis for axis in range(len(each.ty.shape)) if axis not in taken[side]] for side, each in enumerate((left, right))]
    matrices = _regrouped(left, batch[0], free[0], summed[0]), _regrouped(right, batch[1], summed[1], free[1])
    product = relax.op.matmul(*matrices)
    return product if len(free[0]) == len(free[1]) == 1 else relax.op.reshape(product, shape(operation.result))


def _regrouped(data: Any, batch: list[int], rows: list[int], columns: list[int]) -> Any:
    """The data with axes in this order, those of the rows and those of the columns merged."""
    extents = [int(extent) for extent in data.ty.shape]
    order = batch + rows + columns
    if order != sorted(order):
        data = relax.op.permute_dims(data, order)
    if len(rows) == len(columns) == 1:
        return data
    merged = (math.prod(extents[axis] for axis in axes) for axes in (rows, columns))
    return relax.op.reshape(data, (*(extents[axis] for axis in batch), *merged))


def _pooling(operation: Any, data: Any, start: Any) -> Any:
    """The maxima or sums of windows over two neighbouring axes of four."""
    reducer, neutral = _reducer(operation)
    _refuse(operation, "this start", _scalar(operation, start) == neutral)
    _refuse(operation, "dilated data", set(_numbers(operation, "base_dilations", ())) <= {1})
    window = _numbers(operation, "window_dimensions", ())
    _refuse(operation, "other than four dimensions", len(window) == 4)
    strides, dilations = (_numbers(operation, name, (1,) * 4) for name in ("window_strides", "window_dilations"))
    padding = np.reshape(_numbers(operation, "padding", (0,) * 8), (4, 2))
    _refuse(operation, "negative padding", padding.min() >= 0)
    layouts = {"NHWC": (1, 2), "NCHW": (2, 3)}
    still = {
        layout
        for layout, spatial in layouts.items()
        if all(window[axis] == strides[axis] == 1 and not padding[axis].any() for axis in range(4) if axis not in spatial)
    }
    _refuse(operation, "windows over other than two spatial axes", bool(still))
    layout = min(still)
    rows, columns = layouts[layout]
    size = window[rows], window[columns]
    geometry = {
        "pool_size": size,
        "strides": (strides[rows], strides[columns]),
        "padding": (*padding[[rows, columns], 0].tolist(), *padding[[rows, columns], 1].tolist()),
        "dilation": (dilations[rows], dilations[columns]),
        "layout": layout,
    }
    if reducer == "stablehlo.maximum":
        return relax.op.nn.max_pool2d(data, **geometry)
    _refuse(operation, "this reducer", reducer == "stablehlo.add")
    _refuse(operation, "a sum of integers", dtype(operation.result).startswith("float"))
    mean = relax.op.nn.avg_pool2d(data, count_include_pad=True, **geometry)
    return relax.op.multiply(mean, relax.const(math.prod(size), dtype(operation.result)))


def _reduction(operation: Any, data: Any, start: Any) -> Any:
    reducer, neutral = _reducer(operation)
    _refuse(operation, "this start", _scalar(operation, start) == neutral)
    return REDUCERS[reducer][0](data, _numbers(operation, "dimensions", ()))


def _reducer(operation: Any) -> tuple[str, float]:
    """The name of the operation that reduces, and the number that changes nothing in it."""
    body = operation.regions[0].blocks[0].operations
    name = body[0].operation.name
    _refuse(operation, "this reducer", len(body) == 2 and name in REDUCERS)
    return name, REDUCERS[name][1]


REDUCERS: dict[str, tuple[Operator, float]] = {
    "stablehlo.add": (relax.op.sum, 0.0),
    "stablehlo.maximum": (relax.op.max, -math.inf),
    "stablehlo.minimum": (relax.op.min, math.inf),
    "stablehlo.multiply": (relax.op.prod, 1.0),
}


def _pad(operation: Any, data: Any, value: Any) -> Any:
    low, high, inside = (
        _numbers(operation, name, ()) for name in ("edge_padding_low", "edge_padding_high", "interior_padding")
    )
    _refuse(operation, "padding inside or of negative size", not any(inside) and min(*low, *high) >= 0)
    return relax.op.nn.pad(data, np.stack([low, high], 1).ravel().tolist(), "constant", _scalar(operation, value))


def _slice(operation: Any, data: Any) -> Any:
    begin, end, strides = (_numbers(operation, name, ()) for name in ("start_indices", "limit_indices", "strides"))
    return relax.op.strided_slice(data, list(range(len(begin))), begin, end, strides)


def _concatenate(operation: Any, *parts: Any) -> Any:
    return relax.op.concat(parts, ir.IntegerAttr(operation.attributes["dimension"]).value)


def _compare(operation: Any, left: Any, right: Any) -> Any:
    return COMPARISONS[stablehlo.ComparisonDirectionAttr(operation.attributes["comparison_direction"]).value](left, right)


def _plain(operator: Operator) -> Operator:
    """An operator that takes its operands and nothing of the operation."""
    return lambda operation, *operands: operator(*operands)


COMPARISONS: dict[str, Operator] = {
    "EQ": relax.op.equal,
    "NE": relax.op.not_equal,
    "LT": relax.op.less,
    "LE": relax.op.less_equal,
    "GT": relax.op.greater,
    "GE": relax.op.greater_equal,
}

ELEMENTWISE: dict[str, Operator] = {
    "stablehlo.abs": _plain(relax.op.abs),
    "stablehlo.add": _plain(relax.op.add),
    "stablehlo.ceil": _plain(relax.op.ceil),
    "stablehlo.clamp": _plain(lambda low, data, high: relax.op.minimum(relax.op.maximum(data, low), high)),
    "stablehlo.compare": _compare,
    "stablehlo.convert": lambda operation, data: relax.op.astype(data, dtype(operation.result)),
    "stablehlo.cosine": _plain(relax.op.cos),
    "stablehlo.divide": _plain(relax.op.divide),
    "stablehlo.exponential": _plain(relax.op.exp),
    "stablehlo.floor": _plain(relax.op.floor),
    "stablehlo.log": _plain(relax.op.log),
    "stablehlo.logistic": _plain(relax.op.sigmoid),
    "stablehlo.maximum": _plain(relax.op.maximum),
    "stablehlo.minimum": _plain(relax.op.minimum),
    "stablehlo.multiply": _plain(relax.op.multiply),
    "stablehlo.negate": _plain(relax.op.negative),
    "stablehlo.power": _plain(relax.op.power),
    "stablehlo.rsqrt": _plain(relax.op.rsqrt),
    "stablehlo.select": _plain(relax.op.where),
    "stablehlo.sign": _plain(relax.op.sign),
    "stablehlo.sine": _plain(relax.op.sin),
    "stablehlo.sqrt": _plain(relax.op.sqrt),
    "stablehlo.subtract": _plain(relax.op.subtract),
    "stablehlo.tanh": _plain(relax.op.tanh),
}
"""Operators whose operands may be smaller than their types say, if broadcasting makes them so."""

OPERATORS: dict[str, Operator] = {
    "stablehlo.concatenate": _concatenate,
    "stablehlo.convolution": _convolution,
    "stablehlo.dot_general": _dot_general,
    "stablehlo.pad": _pad,
    "stablehlo.reduce": _reduction,
    "stablehlo.reduce_window": _pooling,
    "stablehlo.reshape": lambda operation, data: relax.op.reshape(data, shape(operation.result)),
    "stablehlo.slice": _slice,
    "stablehlo.transpose": lambda operation, data: relax.op.permute_dims(data, _numbers(operation, "permutation", ())),
}
"""Operators that need their operands whole."""
