"""A loop nest of a function replaced by another algorithm, before it is scheduled: what precedes and follows it stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def substituted(schedule: Any, nest: Any, algorithm: Any, buffers: Sequence[Any], unused: Sequence[Any] = ()) -> Any:
    """The function of a schedule with another algorithm in the place of a loop nest.

    **Arguments:**

    - `nest`: the outermost loop of what is replaced.
    - `algorithm`: a PrimFunc on `buffers`, in their order.
    - `unused`: other nests and buffers that the function needs no more.
    """
    import tvm_ffi
    from tvm import s_tir, tirx

    def left(all_: Iterable[Any]) -> list[Any]:
        return [each for each in all_ if not any(map(each.same_as, unused))]

    names = dict(zip(algorithm.params, buffers, strict=True))
    function = schedule.mod["main"]
    root, other = function.body.block, algorithm.body.block
    replacement = tvm_ffi.structural_map(other.body, (tirx.Var, lambda variable: names.get(variable, variable)))
    body = tirx.SeqStmt([replacement if statement.same_as(nest) else statement for statement in left(root.body.seq)])
    allocated = [*left(root.alloc_buffers), *other.alloc_buffers]
    return function.with_body(s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", body, alloc_buffers=allocated)))
