"""A warp's product of two small matrices on CUDA's tensor cores: who holds what, and the instruction.

`mma.m16n8k8` adds to 16 x 8 sums the product of 16 x 8 weights and 8 x 8 data in TF32, which has float32's exponent and ten
bits of its mantissa (PTX ISA, "Matrix Fragments for mma.m16n8k8 with .tf32"). The 32 lanes of a warp hold the three matrices
together: each has four, two and four elements in its registers. The rows of the first matrix are filters f and the columns of
the second pixels p, since eight divides the few pixels of late layers better than sixteen; k counts the taps that are summed
over. Which of the eight taps is which is free, as long as both matrices agree: here a lane has two that are neighbours.
"""

from __future__ import annotations

from functools import cache
from typing import Any

FILTERS, PIXELS, DEPTH = 16, 8, 8
LANES = 32
WARP = "warp"
"""The scope of what the lanes of a warp hold together; the last axes of such buffers are lanes and registers."""

PRODUCT = "tf32_product"

ROUND = r"""
__forceinline__ __device__ float tf32_rounded(float value) {
  unsigned rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return __uint_as_float(rounded);
}
"""

ADD_PRODUCT = r"""
__forceinline__ __device__ void tf32_add_product(float* sums, const float* weights, const float* data) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(__float_as_uint(weights[0])), "r"(__float_as_uint(weights[1])), "r"(__float_as_uint(weights[2])),
        "r"(__float_as_uint(weights[3])), "r"(__float_as_uint(data[0])), "r"(__float_as_uint(data[1])));
}
"""


def weight_place(f: Any, k: Any) -> tuple[Any, ...]:
    """Where a warp holds a weight: the fragment's place, the lane, the register."""
    return f // FILTERS, k // DEPTH, 4 * (f % 8) + k % DEPTH // 2, k % 2 * 2 + f % FILTERS // 8


def data_place(p: Any, k: Any) -> tuple[Any, ...]:
    """Where a warp holds a datum: the fragment's place, the lane, the register."""
    return p // PIXELS, k // DEPTH, 4 * (p % 8) + k % DEPTH // 2, k % 2


def sum_place(f: Any, p: Any) -> tuple[Any, ...]:
    """Where a warp holds a sum: the fragment's place, the lane, the register."""
    return f // FILTERS, p // PIXELS, 4 * (f % 8) + p % PIXELS // 2, f % FILTERS // 8 * 2 + p % 2


def rounded(value: Any) -> Any:
    """A float32 expression rounded to the nearest number of TF32, of two the larger one."""
    from tvm import tirx

    return tirx.call_intrin("float32", "tirx.cuda.func_call", "tf32_rounded", value, ROUND)


@cache
def register() -> str:
    """Tell TVM of the instruction, on fragments that lie in registers; its name, which `s_tir.Schedule.tensorize` takes."""
    from tvm.s_tir import TensorIntrin
    from tvm.script import tirx as T

    source = ADD_PRODUCT

    @T.prim_func(s_tir=True)
    def loops(a: T.handle, b: T.handle, c: T.handle) -> None:
        weights = T.match_buffer(a, (32, 4), "float32", offset_factor=1, scope="warp")
        data = T.match_buffer(b, (32, 2), "float32", offset_factor=1, scope="warp")
        sums = T.match_buffer(c, (32, 4), "float32", offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads(sums[0:32, 0:4], weights[0:32, 0:4], data[0:32, 0:2])
            T.writes(sums[0:32, 0:4])
            for i, j, m in T.grid(16, 8, 8):
                with T.sblock("product"):
                    f, p, k = T.axis.remap("SSR", [i, j, m])
                    sums[4 * (f % 8) + p // 2, f // 8 * 2 + p % 2] = (
                        sums[4 * (f % 8) + p // 2, f // 8 * 2 + p % 2]
                        + weights[4 * (f % 8) + k // 2, k % 2 * 2 + f // 8] * data[4 * p + k // 2, k % 2]
                    )

    @T.prim_func(s_tir=True)
    def instruction(a: T.handle, b: T.handle, c: T.handle) -> None:
        weights = T.match_buffer(a, (32, 4), "float32", offset_factor=1, scope="warp")
        data = T.match_buffer(b, (32, 2), "float32", offset_factor=1, scope="warp")
        sums = T.match_buffer(c, (32, 4), "float32", offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads(sums[0:32, 0:4], weights[0:32, 0:4], data[0:32, 0:2])
            T.writes(sums[0:32, 0:4])
            for lane in T.thread_binding(32, "threadIdx.x"):
                T.evaluate(
                    T.cuda.func_call(
                        "tf32_add_product",
                        T.address_of(sums[lane, 0]),
                        T.address_of(weights[lane, 0]),
                        T.address_of(data[lane, 0]),
                        source_code=source,
                    )
                )

    TensorIntrin.register(PRODUCT, loops, instruction)
    return PRODUCT


def with_own_lanes(function: Any) -> Any:
    """A scheduled function in which every thread keeps of a warp's buffers what its own lane holds, in its registers.

    Every element must be read and written by the lane that holds it alone, save by the instruction. TVM's own pass
    `LowerWarpMemory` does the same, but not for buffers inside of the loop where another one is in use.
    """
    import tvm_ffi
    from tvm import ir, tirx

    kept: dict[Any, Any] = {}

    def registers(variable: Any) -> Any:
        if not isinstance(variable.ty, tirx.BufferType) or variable.scope() != WARP:
            return variable
        if variable not in kept:
            *place, _, count = variable.shape
            kept[variable] = tirx.decl_buffer(
                (*place, 1, count),
                variable.dtype,
                variable.name,
                elem_offset=variable.elem_offset,
                scope="local",
                offset_factor=variable.offset_factor,
                layout=None,
            )
        return kept[variable]

    def is_kept(buffer: Any) -> bool:
        return any(map(buffer.same_as, kept.values()))

    def own(indices: Any) -> list[Any]:
        *place, _, register = indices
        return [*place, 0, register]

    def load(element: Any) -> Any:
        return tirx.BufferLoad(element.source, own(element.indices)) if is_kept(element.source) else element

    def store(statement: Any) -> Any:
        if not is_kept(statement.buffer):
            return statement
        return tirx.BufferStore(statement.buffer, statement.value, own(statement.indices))

    def region(part: Any) -> Any:
        if not is_kept(part.source):
            return part
        *place, _, registers = part.region
        return tirx.BufferRegion(part.source, [*place, ir.Range(0, 1), registers])

    rules = (tirx.Var, registers), (ir.TensorLoad, load), (tirx.BufferStore, store), (ir.TensorRegion, region)
    return tvm_ffi.structural_map(function, rules)
