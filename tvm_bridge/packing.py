"""Weights packed ahead of time: takes a scheduled kernel apart into what runs at every call and what runs once.

A template that wants its weights in another layout copies them with a block that it marks `LAYOUT_REWRITE`. Compiled as it
stands, such a kernel takes the operator's plain weights and packs them at every call. A deployed network packs its weights
once, and so does whoever measures the kernel: `split` gives them the two parts. TVM's own passes read the same mark when they
put a schedule into a network (`relax.transform.SplitLayoutRewritePreproc`).
"""

from __future__ import annotations

from typing import Any

LAYOUT_REWRITE = "meta_schedule.layout_rewrite_preproc"
"""The annotation of a block that copies a parameter into another layout."""


def split(function: Any) -> tuple[Any, dict[int, Any]]:
    """Part a scheduled function into a kernel that takes packed weights and the functions that pack them.

    **Arguments:**

    - `function`: a scheduled `PrimFunc`, in which each block marked `LAYOUT_REWRITE` copies one whole parameter.

    **Returns:** the kernel, whose parameters of that kind have their packed shapes, and for the position of each of them a
    `PrimFunc (weight, packed)`. A function without such blocks comes back as it is, with nothing to
    pack.
    """
    from tvm import IRModule, s_tir

    schedule = s_tir.Schedule(function)
    packers = {}
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        if LAYOUT_REWRITE in schedule.get(block).annotations:
            nest, copy = schedule.get(schedule.get_loops(block)[0]), schedule.get(block)
            weight, packed = copy.reads[0].source, copy.writes[0].source
            packers[_position(function, weight)] = _packer(nest, weight, packed)
    if not packers:
        return function, {}
    module = s_tir.transform.RemoveWeightLayoutRewriteBlock()(IRModule({"main": function}))
    return module["main"], packers


def by_name(packers: dict[int, Any]) -> dict[str, Any]:
    """The packing functions under the names they have in a compiled module: `pack_1` packs parameter 1."""
    return {f"pack_{position}": packer for position, packer in packers.items()}


def _position(function: Any, parameter: Any) -> int:
    return next(position for position, other in enumerate(function.params) if other.same_as(parameter))


def _packer(nest: Any, weight: Any, packed: Any) -> Any:
    """The function `(weight, packed)` around a loop nest that copies the one into the other."""
    from tvm import s_tir, tirx

    root = s_tir.SBlock([], [], [], "root", nest)
    function = tirx.PrimFunc([weight, packed], s_tir.SBlockRealize([], True, root))
    return s_tir.renew_defs(function.with_attrs({"s_tir": True, "tirx.noalias": True}))
