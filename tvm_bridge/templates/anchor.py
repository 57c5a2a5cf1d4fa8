"""The block of an operator in a schedule."""

from __future__ import annotations

from typing import Any


def anchor_block(schedule: Any) -> Any:
    """The block of the operator in a schedule of it and its epilogue."""
    from tvm import s_tir

    return schedule.get_sblock(s_tir.analysis.find_anchor_sblock(schedule.mod).name_hint)


def inlined_after(schedule: Any, anchor: Any) -> Any:
    """The block that writes the result, with all between the anchor and it inlined."""
    (output,) = schedule.get_output_blocks("root")
    names = {str(schedule.get(block).name_hint) for block in (anchor, output)}
    waiting = list(schedule.get_consumers(anchor))
    while waiting:
        block = waiting.pop()
        if (name := str(schedule.get(block).name_hint)) not in names:
            names.add(name)
            waiting += schedule.get_consumers(block)
            schedule.compute_inline(block)
    return output
