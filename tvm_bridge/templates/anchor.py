"""The block of an operator in a schedule."""

from __future__ import annotations

from typing import Any


def anchor_block(schedule: Any) -> Any:
    """The block of the operator in a schedule of it and its epilogue."""
    from tvm import s_tir

    return schedule.get_sblock(s_tir.analysis.find_anchor_sblock(schedule.mod).name_hint)
