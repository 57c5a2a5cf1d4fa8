"""Weights packed ahead of time: takes a scheduled kernel apart into what runs at every call and what runs once.

A template that wants its weights in another layout copies them with a block that it marks `LAYOUT_REWRITE`. Compiled as it
stands, such a kernel takes the operator's plain weights and packs them at every call. A deployed network packs its weights
once, and so does whoever measures the kernel: `split` gives them the two parts. TVM's own passes read the same mark when they
put a schedule into a network (`relax.transform.SplitLayoutRewritePreproc`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

LAYOUT_REWRITE = "meta_schedule.layout_rewrite_preproc"
"""The annotation of a block that copies a parameter into another layout."""


def split(function: Any) -> tuple[Any, dict[int, Any]]:
    """Part a scheduled function into a kernel that takes packed weights and the functions that pack them.

    **Arguments:**

    - `function`: a scheduled `PrimFunc`, in which each block marked `LAYOUT_REWRITE` reads one parameter, and is all that does.

    **Returns:** the kernel, whose parameters of that kind have their packed shapes, and for the position of each of them a
    `PrimFunc (weight, packed)`. A function without such blocks comes back as it is, with nothing to pack.

    **Raises:** `ValueError` for a marked block that reads no parameter, or one that another marked block reads.
    """
    from tvm import s_tir

    schedule = s_tir.Schedule(function)
    packers, ahead, parameters = {}, [], list(function.params)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        if LAYOUT_REWRITE in schedule.get(block).annotations:
            nest, copy = schedule.get(schedule.get_loops(block)[0]), schedule.get(block)
            weight, packed = copy.reads[0].source, copy.writes[0].source
            position = next((place for place, other in enumerate(function.params) if other.same_as(weight)), None)
            if position is None or position in packers:
                raise ValueError(
                    f"function: its block {copy.name_hint!r}, marked {LAYOUT_REWRITE}, must alone read a parameter."
                )
            packers[position], parameters[position] = _function([weight, packed], [nest], []), packed
            ahead += [nest, packed]
    if not packers:
        return function, {}
    root = function.body.block

    def kept(all_: Iterable[Any]) -> list[Any]:
        return [each for each in all_ if not any(map(each.same_as, ahead))]

    return _function(parameters, kept(root.body.seq), kept(root.alloc_buffers)), packers


def by_name(packers: dict[int, Any]) -> dict[str, Any]:
    """The packing functions under the names they have in a compiled module: `pack_1` packs parameter 1."""
    return {f"pack_{position}": packer for position, packer in packers.items()}


def _function(parameters: list[Any], statements: list[Any], buffers: list[Any]) -> Any:
    """The function of some statements, with buffers of its own."""
    from tvm import s_tir, tirx

    body = statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)
    root = s_tir.SBlock([], [], [], "root", body, alloc_buffers=buffers)
    function = tirx.PrimFunc(parameters, s_tir.SBlockRealize([], True, root))
    return s_tir.renew_defs(function.with_attrs({"s_tir": True, "tirx.noalias": True}))
