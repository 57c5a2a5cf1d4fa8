"""Relax operators in another layout: which can be, and how their arguments and attributes change."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from tvm import ir, relax

from tvm_bridge.convolution import LAYOUTS, Conv2d, array_axes, four_sides, pair, reordered

CONVOLUTION = "relax.nn.conv2d"

WINDOWED = frozenset(f"relax.nn.{name}" for name in ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"))
"""Operators that name the layout of what they read and give."""

ALONG_AXES = frozenset({"relax.concat", "relax.nn.batch_norm", "relax.nn.softmax", "relax.nn.log_softmax"})
"""Operators that name one axis."""

REDUCTIONS = frozenset(f"relax.{name}" for name in ("mean", "sum", "max", "min"))
"""Operators that name the axes that they do away with, or keep at extent 1."""

ELEMENTWISE = frozenset(
    f"relax.{name}"
    for name in (
        *("abs", "add", "clip", "divide", "erf", "exp", "log", "maximum", "minimum", "multiply", "negative", "power"),
        *("rsqrt", "sigmoid", "sqrt", "square", "subtract", "tanh"),
        *("nn.gelu", "nn.gelu_tanh", "nn.leakyrelu", "nn.relu", "nn.relu6", "nn.silu"),
    )
)
"""Operators that take their operands' elements one by one, operands of fewer axes broadcast."""


@dataclass(frozen=True)
class Change:
    """From the layout that a network has to another: `source` and `target` are "NCHW" and "NHWC", or the other way round."""

    source: str
    target: str

    @property
    def axes(self) -> tuple[int, ...]:
        """For each axis of the target which axis of the source it is, as a transposition takes them."""
        return tuple(map(self.source.index, self.target))

    @property
    def back(self) -> Change:
        """The way back."""
        return Change(self.target, self.source)

    def axis(self, axis: int) -> int:
        """Where an axis of the source, which may be counted from the end, lies in the target."""
        return self.target.index(self.source[axis])


def rank(expression: Any) -> int | None:
    """How many axes a tensor has; None for what is no tensor."""
    return int(expression.ty.ndim) if isinstance(expression.ty, relax.TensorType) else None


def operands(expression: Any) -> Iterator[Any]:
    """The variables that an expression reads, constants and tuples looked through."""
    if isinstance(expression, relax.Var):
        yield expression
    elif isinstance(expression, relax.Call):
        for argument in expression.args:
            yield from operands(argument)
    elif isinstance(expression, relax.Tuple):
        for field in expression.fields:
            yield from operands(field)
    elif isinstance(expression, relax.TupleGetItem):
        yield from operands(expression.tuple_value)


def name_of(expression: Any) -> str:
    """The operator that an expression calls; empty if it calls none."""
    return expression.op.name if isinstance(expression, relax.Call) and isinstance(expression.op, ir.Op) else ""


def workload_of_call(call: Any) -> Conv2d | None:
    """The convolution that a call is, with a constant weight, in one of our layouts; None if it is anything else."""
    if name_of(call) != CONVOLUTION or not isinstance(call.args[1], ir.GenericConst):
        return None
    attrs, data = call.attrs, call.args[0]
    if attrs.data_layout not in LAYOUTS or attrs.out_layout != attrs.data_layout or sorted(attrs.kernel_layout) != list("HIOW"):
        return None
    with suppress(ValueError):
        return Conv2d(
            reordered(_extents(data), attrs.data_layout, "NCHW"),
            reordered(_extents(call.args[1]), attrs.kernel_layout, "OIHW"),
            pair("strides", _numbers(attrs.strides)),
            four_sides(_numbers(attrs.padding)),
            pair("dilation", _numbers(attrs.dilation)),
            int(attrs.groups),
            str(data.ty.dtype),
            attrs.data_layout,
        )
    return None


def can_change(call: Any, change: Change) -> bool:
    """Whether an operator that runs in the source's layout can run in the target's."""
    name, ranks = name_of(call), [rank(each) for each in operands(call)]
    if name in ELEMENTWISE:
        return {4} <= set(ranks) <= {0, 4} and rank(call) == 4
    if ranks[:1] != [4]:
        return False
    if name == CONVOLUTION:
        workload = workload_of_call(call)
        return workload is not None and workload.layout == change.source
    if name in WINDOWED:
        return call.attrs.layout == call.attrs.out_layout == change.source
    if name in REDUCTIONS:
        gone = {change.source[axis] for axis in _axes(call)}
        left = [[axis for axis in layout if axis not in gone] for layout in (change.source, change.target)]
        return bool(call.attrs.keepdims) or left[0] == left[1]
    return name in ALONG_AXES and (name != "relax.concat" or {*ranks, rank(call)} == {4})


def changed(call: Any, arguments: Sequence[Any], change: Change) -> Any:
    """An operator in the target's layout; its variables among `arguments` are in that layout already."""
    name, attrs = name_of(call), call.attrs
    if name in ELEMENTWISE:
        return relax.Call(call.op, [_broadcast(each, change) for each in arguments], attrs, call.ty_args)
    attributes: dict[str, Any] = {}
    if name == CONVOLUTION:
        data_axes, weight_axes = array_axes(change.target, int(attrs.groups))
        attributes = {"data_layout": data_axes, "out_layout": data_axes, "kernel_layout": weight_axes}
        weight = call.args[1].value.numpy()
        arguments = [arguments[0], relax.const(weight.transpose(Change(attrs.kernel_layout, weight_axes).axes))]
    elif name in WINDOWED:
        attributes = {"layout": change.target, "out_layout": change.target}
    elif name in REDUCTIONS:
        attributes = {"axis": sorted(map(change.axis, _axes(call)))}
    else:
        attributes = {"axis": change.axis(int(attrs.axis))}
    function = attrgetter(name.removeprefix("relax."))(relax.op)
    own = {each: getattr(attrs, each) for each in inspect.signature(function).parameters if hasattr(attrs, each)}
    return function(*arguments, **own | attributes)


def _broadcast(operand: Any, change: Change) -> Any:
    """An operand of an elementwise operator; a constant's missing axes are those that NumPy would add."""
    if not isinstance(operand, ir.GenericConst) or not rank(operand):
        return operand
    value = operand.value.numpy()
    return relax.const(value.reshape((1,) * (4 - value.ndim) + value.shape).transpose(change.axes))


def _axes(call: Any) -> list[int]:
    """The axes that a reduction does away with."""
    return list(range(4)) if call.attrs.axis is None else _numbers(call.attrs.axis)


def _extents(tensor: Any) -> list[int]:
    return [int(extent) for extent in tensor.ty.shape]


def _numbers(values: Any) -> list[int]:
    return [int(value) for value in values]
