"""Runs the CUDA source of a schedule on the CPU: threads, barriers, shared memory and asynchronous copies included."""

import ctypes
import re
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm
from tvm.s_tir.pipeline import default_s_tir_pipeline

from tvm_bridge.build import asynchronous_copies, compiled

EMULATOR = r"""
#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <ucontext.h>
#include <vector>
#define alignas(bytes)
#define __align__(bytes)
#define __global__
#define __shared__ extern
#define __launch_bounds__(threads)
using std::max;
using std::min;
typedef unsigned char uchar;
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
float2 make_float2(float x, float y) { return {x, y}; }
float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct Index { int x, y, z; };
Index threadIdx, blockIdx;
float** arguments;
ucontext_t scheduler;
std::vector<ucontext_t> fibers;
std::vector<char> finished;
int current;
void __syncthreads() { swapcontext(&fibers[current], &scheduler); }

// An asynchronous copy arrives as late as it may: when its thread waits for its group.
struct Copy { char* to; const char* from; int bytes; };
std::vector<std::deque<std::vector<Copy>>> groups;
void copy_async(int bytes, void* to, int to_offset, const void* from, int from_offset, int predicate = 1) {
  char* place = (char*)to + 4 * to_offset;
  if (predicate) groups[current].back().push_back({place, (const char*)from + 4 * from_offset, bytes});
  else std::memset(place, 0, bytes);
}
void commit_group() { groups[current].emplace_back(); }
void wait_group(size_t pending) {
  for (auto& mine = groups[current]; mine.size() > pending + 1; mine.pop_front())
    for (const Copy& copy : mine.front()) std::memcpy(copy.to, copy.from, copy.bytes);
}
FUNCTIONS
KERNELS
SHARED
BODIES
void (*body)();
void fiber() { body(); finished[current] = 1; }

// The threads of a block run in turn, each up to its next barrier, first to last and then last to first: what a missing
// barrier lets through in one order shows in the other. Shared memory starts as NaN. Returns 1 if threads disagree on the
// number of barriers.
extern "C" int launch(int kernel, const int* grid, const int* block, float** buffers) {
  arguments = buffers;
  body = bodies[kernel];
  const int threads = block[0] * block[1] * block[2];
  std::vector<std::vector<char>> stacks(threads, std::vector<char>(1 << 16));
  fibers.resize(threads);
  for (int b = 0; b < grid[0] * grid[1] * grid[2]; ++b) {
    blockIdx = {b % grid[2], b / grid[2] % grid[1], b / grid[2] / grid[1]};
    finished.assign(threads, 0);
    groups.assign(threads, std::deque<std::vector<Copy>>(1));
    POISON
    for (int t = 0; t < threads; ++t) {
      getcontext(&fibers[t]);
      fibers[t].uc_stack.ss_sp = stacks[t].data();
      fibers[t].uc_stack.ss_size = stacks[t].size();
      fibers[t].uc_link = &scheduler;
      makecontext(&fibers[t], fiber, 0);
    }
    int running = threads;
    for (int round = 0; running == threads; ++round) {
      for (int i = 0; i < threads; ++i) {
        current = round % 2 ? threads - 1 - i : i;
        threadIdx = {current % block[2], current / block[2] % block[1], current / block[2] / block[1]};
        swapcontext(&scheduler, &fibers[current]);
      }
      running = threads - std::count(finished.begin(), finished.end(), 1);
    }
    if (running) return 1;
  }
  return 0;
}
"""
"""Runs CUDA kernels on the CPU: blocks one after the other, every thread of a block a fiber of its own."""

SHARED = re.compile(r"__shared__ alignas\(64\) float (\w+)\[(\d+)\];")
DYNAMIC = "buf_dyn_shmem_ptr"

ASYNCHRONOUS = (
    (r"ptx_cp_async_legacy_(?:pred_)?c[ag]_(\d+)_4_4\(", r"copy_async(\1, "),
    (r"tvm_builtin_ptx_cp_async_commit_group_async_commit_group\(\)", "commit_group()"),
    (r"tvm_builtin_ptx_cp_async_wait_group_async_wait_group_(\d+)\(\)", r"wait_group(\1)"),
)
"""The calls that copy asynchronously as TVM spells them, and as the emulator does."""


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched: the extent of every axis that it has, and bytes of dynamic shared memory.

    `static` are the lengths of the arrays that it declares in shared memory.
    """

    kernel: str
    axes: dict[str, int]
    dynamic_bytes: int
    static: list[int]

    def extents(self, kind: str) -> tuple[int, int, int]:
        """Blocks ("blockIdx") or threads ("threadIdx") along z, y and x."""
        z, y, x = (self.axes[f"{kind}.{axis}"] for axis in "zyx")
        return z, y, x


def launches(schedule, target) -> list[Launch]:
    """The kernels of a schedule in their order, as the host's code launches them."""
    lower, _, _ = default_s_tir_pipeline()
    module = tvm.IRModule({"main": schedule.mod["main"].with_attr("global_symbol", "main")})
    host = tvm.target.Target(target.tvm, tvm.target.Target("llvm"))
    with asynchronous_copies():
        text = str(lower(tvm.tirx.transform.BindTarget(host)(module)))
    bodies = {body[: body.index("(")]: body for body in text.split("    def ")[1:]}
    found = []
    for kernel, arguments, parameters in re.findall(r'T\.call_ffi_kernel\("(\w+)", (.*), launch_params=\[(.*?)\]', text):
        names = re.findall(r'"([\w.]+)"', parameters)
        values = [int(value) for value in re.findall(r"(?:T\.int64\()?(\d+)\)?(?:,|$)", arguments)[-len(names) :]]
        axes = defaultdict(lambda: 1, zip(names, values, strict=True))
        static = [int(length) for length in re.findall(r"T\.alloc_shared\(\((\d+),\)\)", bodies[kernel])]
        found.append(Launch(kernel, axes, axes.pop("tirx.use_dyn_shared_memory", 0), static))
    return found


def cuda_source(schedule, target) -> str:
    """The CUDA C++ of a schedule's kernels."""
    return compiled({"main": schedule.mod["main"]}, target).mod.imports[0].inspect_source()


def run_emulated(schedule, target, inputs, output, functions=""):
    """Run a schedule's kernels on NumPy arrays, and return its result; what they do not write stays NaN.

    `functions` are those, in C++, that kernels call beside the emulator's own.
    """
    source = cuda_source(schedule, target)
    kernels = source[source.index('extern "C" __global__') :].replace("extern __shared__", "__shared__")
    for spelled, emulated in ASYNCHRONOUS:
        kernels = re.sub(spelled, emulated, kernels)
    called = launches(schedule, target)
    function = schedule.mod["main"]
    between = [buffer for buffer in function.body.block.alloc_buffers if buffer.scope() == "global"]
    result = np.full(output, np.nan, np.float32)
    buffers = [*inputs, result, *(np.full([int(n) for n in buffer.shape], np.nan, np.float32) for buffer in between)]
    names = [str(each.name).replace(".", "_") for each in (*function.params, *between)]
    shared, dynamic = SHARED.findall(kernels), max(launch.dynamic_bytes for launch in called)
    arrays = [f"float {name}[{length}];" for name, length in shared]
    program = {
        "FUNCTIONS": functions,
        "KERNELS": kernels,
        "SHARED": "\n".join([*arrays, *([f"uchar {DYNAMIC}[{dynamic}] __attribute__((aligned(64)));"] if dynamic else [])]),
        "BODIES": _bodies(kernels, called, names),
        "POISON": " ".join(f"std::fill_n({name}, {length}, NAN);" for name, length in shared)
        + (f" std::fill_n((float*){DYNAMIC}, {dynamic // 4}, NAN);" if dynamic else ""),
    }
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kernel.cpp").write_text(re.sub("|".join(program), lambda place: program[place[0]], EMULATOR))
        subprocess.run(["g++", "-O0", "-shared", "-fPIC", "-w", "-o", "kernel.so", "kernel.cpp"], cwd=folder, check=True)
        launch = ctypes.CDLL(str(Path(folder, "kernel.so"))).launch
    pointers = (ctypes.c_void_p * len(buffers))(*(buffer.ctypes.data for buffer in buffers))
    for number, each in enumerate(called):
        grid, block = ((ctypes.c_int * 3)(*each.extents(kind)) for kind in ("blockIdx", "threadIdx"))
        assert launch(number, grid, block, pointers) == 0, "threads of a block passed different numbers of barriers"
    return result


def _bodies(kernels, called, names):
    """A function without parameters for each kernel, which calls it, and the list of them."""
    bodies = []
    for number, each in enumerate(called):
        (parameters,) = re.findall(rf"\b{each.kernel}\(([^)]*)\) {{", kernels)
        passed = ", ".join(f"arguments[{names.index(name)}]" for name in re.findall(r"__restrict__ (\w+)_ptr", parameters))
        bodies.append(f"void body_{number}() {{ {each.kernel}({passed}); }}")
    listed = ", ".join(f"body_{number}" for number in range(len(called)))
    return "\n".join([*bodies, f"void (*bodies[])() = {{{listed}}};"])
