"""A network as a graph to choose layouts in: what must share a layout, what passes between, and the network once it is chosen.

TVM's `relax.transform.ConvertLayout` takes a layout for each convolution too, but lets all other operators follow what they
read, and transposes a tensor once for each reader. Here every operator has the layout that was chosen for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import IRModule, ir, relax

from tvm_bridge.convolution import Conv2d
from tvm_bridge.network.batch_norm import fold_batch_norm
from tvm_bridge.network.layout_operators import (
    ELEMENTWISE,
    Change,
    can_change,
    changed,
    name_of,
    operands,
    rank,
    workload_of_call,
)
from tvm_bridge.network.transposition import Transposition

OUTSIDE = 0
"""The group that makes the network's inputs and reads its results: it keeps the network's layout."""


@dataclass(frozen=True)
class Passed:
    """A tensor of four axes, the group of operators that makes it, and the other groups that read it."""

    shape: tuple[int, ...]
    dtype: str
    producer: int
    consumers: tuple[int, ...]


@dataclass(frozen=True)
class LayoutGraph:
    """The operators of a network in groups of one layout each.

    A group is an operator with what takes its result alone, element by element: to change layouts between them costs as much as
    after them.

    - `change`: from the layout that the network has to the other.
    - `convolutions`: name, group and workload of each convolution that can have either layout.
    - `free`: for each group, whether it can have the other layout.
    - `passed`: the tensors that pass between groups, one of which can have the other layout.
    - `groups`: of the variables of "main".
    """

    module: Any
    change: Change
    convolutions: tuple[tuple[str, int, Conv2d], ...]
    free: tuple[bool, ...]
    passed: tuple[Passed, ...]
    groups: Mapping[Any, int]

    @classmethod
    def of(cls, module: IRModule) -> LayoutGraph:
        """The graph of an IRModule's function "main".

        **Raises:** `ValueError` if "main" is not pure dataflow, has no convolution that could have either layout, or
        has them in both layouts already.
        """
        module = _prepared(module)
        bindings, result = _body(module)
        workloads = {binding.var: found for binding in bindings if (found := workload_of_call(binding.value))}
        layouts = sorted({workload.layout for workload in workloads.values()})
        if len(layouts) != 1:
            raise ValueError(
                f"network: its convolutions with constant weights have layouts {layouts}; give one whose convolutions are all "
                "NCHW or all NHWC."
            )
        change = Change("NCHW", "NHWC") if layouts == ["NCHW"] else Change("NHWC", "NCHW")
        readers = Counter(each for binding in bindings for each in operands(binding.value)) + Counter(operands(result))
        groups: dict[Any, int] = dict.fromkeys(module["main"].params, OUTSIDE)
        free = [False]
        for binding in bindings:
            joined = _joined(binding.value, readers, change)
            if joined is None:
                groups[binding.var] = len(free)
                free.append(can_change(binding.value, change))
            else:
                groups[binding.var] = groups[joined]
        reading: dict[Any, set[int]] = {variable: set() for variable in groups}
        for variable, expression in [(binding.var, binding.value) for binding in bindings] + [(None, result)]:
            for each in operands(expression):
                reading[each].add(OUTSIDE if variable is None else groups[variable])
        passed = [
            Passed(tuple(map(int, each.ty.shape)), str(each.ty.dtype), groups[each], tuple(sorted(others)))
            for each, groups_ in reading.items()
            if rank(each) == 4 and (others := groups_ - {groups[each]}) and any(free[one] for one in {groups[each], *others})
        ]
        convolutions = tuple((variable.name, groups[variable], found) for variable, found in workloads.items())
        return cls(module, change, convolutions, tuple(free), tuple(passed), groups)

    def transposition(self, passed: Passed, label: int) -> Transposition:
        """The copy of a tensor into the other layout from the one, by its label, in which it is made."""
        if label == 0:
            return Transposition(passed.shape, self.change.axes, passed.dtype)
        there = Transposition(passed.shape, self.change.axes).output
        return Transposition(there, self.change.back.axes, passed.dtype)

    def converted(self, labels: Sequence[int]) -> IRModule:
        """The network with each group in its layout, 0 for the one that it has, and tensors transposed where they must be."""
        builder = relax.BlockBuilder()
        bindings, result = _body(self.module)
        function = self.module["main"]
        held: dict[Any, dict[int, Any]] = {each: {0: each} for each in function.params}

        def variable(each: Any, label: int) -> Any:
            copies = held[each]
            if label not in copies:
                (first,) = copies.values()
                copies[label] = first if rank(each) != 4 else builder.emit(_transposed(first, self.change, label))
            return copies[label]

        def rebuilt(expression: Any, label: int) -> Any:
            if isinstance(expression, relax.Var):
                return variable(expression, label)
            if isinstance(expression, relax.Tuple):
                return relax.Tuple([rebuilt(field, label) for field in expression.fields])
            if isinstance(expression, relax.TupleGetItem):
                return relax.TupleGetItem(rebuilt(expression.tuple_value, label), expression.index)
            if not isinstance(expression, relax.Call):
                return expression
            arguments = [rebuilt(argument, label) for argument in expression.args]
            if label and name_of(expression):
                return changed(expression, arguments, self.change)
            return relax.Call(expression.op, arguments, expression.attrs, expression.ty_args)

        with builder.function("main", function.params, attrs=dict(function.attrs.items())):
            with builder.dataflow():
                for binding in bindings:
                    label = labels[self.groups[binding.var]]
                    held[binding.var] = {label: builder.emit(rebuilt(binding.value, label), binding.var.name)}
                output = builder.emit_output(rebuilt(result, 0))
            builder.emit_func_output(output)
        module = self.module.clone()
        module.update_func(module.get_global_var("main"), builder.get()["main"])
        return module


def _prepared(module: IRModule) -> IRModule:
    """The module as one block of dataflow, with batch normalisations folded into weights."""
    transform = relax.transform
    module = fold_batch_norm(transform.ConvertToDataflow(min_size=1)(module))
    passes = (
        transform.CanonicalizeBindings(),
        transform.FoldConstant(),
        transform.DeadCodeElimination(),
        transform.Normalize(),
    )
    return ir.transform.Sequential(passes)(module)


def _body(module: IRModule) -> tuple[list[Any], Any]:
    """The bindings of "main" and its result."""
    body = module["main"].body
    bindings = [binding for block in body.blocks for binding in block.bindings]
    plain = all(isinstance(block, relax.DataflowBlock) for block in body.blocks)
    if not plain or not all(isinstance(binding, relax.VarBinding) for binding in bindings):
        raise ValueError("network: its function main must be pure dataflow of static shapes, without branches or effects.")
    return bindings, body.body


def _joined(value: Any, readers: Mapping[Any, int], change: Change) -> Any:
    """The variable whose layout an expression shares without loss; None if it may have another.

    A part of a tuple and another name are no operators. What an elementwise operator reads alone costs as much to transpose as
    what it gives.
    """
    read = list(operands(value))
    if isinstance(value, (relax.Var, relax.TupleGetItem)):
        return read[0]
    if len(read) != 1 or readers[read[0]] > 1 or not can_change(value, change):
        return None
    name, given = name_of(value), value.ty
    same = name in ELEMENTWISE and list(given.shape) == list(read[0].ty.shape)
    return read[0] if same or name == "relax.nn.batch_norm" else None


def _transposed(tensor: Any, change: Change, label: int) -> Any:
    """A tensor of the other layout in the one that `label` says."""
    way = change if label else change.back
    transposition = Transposition(tuple(map(int, tensor.ty.shape)), way.axes)
    if transposition.moves:
        return relax.op.permute_dims(tensor, way.axes)
    return relax.op.reshape(tensor, transposition.output)
