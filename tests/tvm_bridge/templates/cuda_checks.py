"""What the tests of the CUDA templates share: how to run and read a scheduled kernel without a GPU, and the recorded runs."""

import ctypes
import json
import math
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import jax
import numpy as np
import pytest
import tvm
import tvm_ffi
from hypothesis import strategies as st
from tvm import relax

from search import Split
from tests.records_folder import RECORDS
from tests.tvm_bridge.strategies import convolutions
from tvm_bridge import templates
from tvm_bridge.candidates import replaced
from tvm_bridge.convolution import Conv2d
from tvm_bridge.ptxas import resources
from tvm_bridge.records import read_records
from tvm_bridge.target import Target

CUDA = Target("cuda", (("arch", "sm_80"),))
LLVM = Target("llvm")
INSTANTIATION = 1
"""AutoTVM's error for a configuration that its check of the generated code refused."""

EMULATOR = r"""
#include <algorithm>
#include <cmath>
#include <ucontext.h>
#include <vector>
#define alignas(bytes)
#define __global__
#define __shared__ extern
#define __launch_bounds__(threads)
using std::max;
using std::min;
struct Index { int x, y, z; };
Index threadIdx, blockIdx;
float** arguments;
ucontext_t scheduler;
std::vector<ucontext_t> fibers;
std::vector<char> finished;
int current;
void __syncthreads() { swapcontext(&fibers[current], &scheduler); }
KERNEL
SHARED
void fiber() { main_kernel(ARGUMENTS); finished[current] = 1; }

// The threads of a block run in turn, each up to its next barrier, first to last and then last to first: what a missing
// barrier lets through in one order shows in the other. Shared memory starts as NaN. Returns 1 if threads disagree on the
// number of barriers.
extern "C" int launch(const int* grid, const int* block, float** buffers) {
  arguments = buffers;
  const int threads = block[0] * block[1] * block[2];
  std::vector<std::vector<char>> stacks(threads, std::vector<char>(1 << 16));
  fibers.resize(threads);
  for (int b = 0; b < grid[0] * grid[1] * grid[2]; ++b) {
    blockIdx = {b % grid[2], b / grid[2] % grid[1], b / grid[2] / grid[1]};
    finished.assign(threads, 0);
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
"""Runs one CUDA kernel on the CPU: blocks one after the other, every thread of a block a fiber of its own."""

SHARED = re.compile(r"__shared__ alignas\(64\) float (\w+)\[(\d+)\];")

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is needed to run CUDA source on the CPU")
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is needed to ask ptxas")


@st.composite
def configured(
    draw,
    *,
    depthwise: bool = False,
    layout: str = "NCHW",
    enlarged: bool = False,
    other=None,
    valid: bool = True,
    largest: int = 12,
):
    """A convolution, its space on CUDA and one row of the space, with few virtual threads: each is a copy of the code.

    `other` has candidates for some knobs.
    """
    workload = draw(convolutions(depthwise=depthwise, largest=largest, layout=layout))
    space = replaced(templates.space(workload, CUDA, enlarged=enlarged), other or {})
    seed = draw(st.integers(0, 2**32 - 1))
    if valid:
        rows = space.sample(jax.random.key(seed), 64)
    else:
        rows = np.random.default_rng(seed).integers(0, space.shape, (64, len(space.shape)))
    return workload, space, few_virtual_threads(space, rows)


def few_virtual_threads(space, rows):
    """The first row whose output tiles are cut into at most 64 virtual threads."""
    choice = space.choice(rows)
    tiles = [factors[:, 1] for factors in choice.values() if factors.ndim == 2 and factors.shape[1] == 4]
    return rows[np.argmin(np.prod(tiles, axis=0) > 64)]


def computes_the_reference(run, target, workload, space, knobs):
    *shapes, output = workload.shapes
    inputs = normal(*shapes)
    result = run(scheduled(workload, space.to_config(knobs), target), inputs, output)

    np.testing.assert_allclose(result, workload.reference(*inputs), rtol=1e-4, atol=1e-4)


def ptxas_accepts(workload, space, knobs):
    """The kernel's source compiles, and takes the shared memory that the predicate tells.

    Where one thread does all, ptxas takes arrays apart as it likes; where there is little, it has laid them 256 bytes apart.
    """
    schedule = scheduled(workload, space.to_config(knobs), CUDA)
    used, axes = resources(cuda_source(schedule), "sm_80"), thread_axes(schedule)
    told = space.predicate.shared_bytes(space.choice(knobs[None])).item()
    alone = all(axes[f"threadIdx.{axis}"] == 1 for axis in "zyx")
    assert alone or used.shared_bytes == told or (told < 256 and used.shared_bytes <= told + 256)
    assert 0 < used.registers <= 255


def declares_what_the_predicate_tells(workload, space, knobs):
    config = space.to_config(knobs) | {"auto_unroll_max_step": 0}  # unrolling declares nothing, and takes long
    shared_bytes, threads_z, threads, blocks_z = declared(scheduled(workload, config, CUDA))
    assert space.predicate.shared_bytes(space.choice(knobs[None])).item() == shared_bytes
    fits = shared_bytes <= 49_152 and threads_z <= 64 and threads <= 1024 and blocks_z <= 65_535
    assert space.valid(knobs[None]).item() == fits


def scheduled(workload: Conv2d, config, target: Target, function=None):
    return templates.find(workload.operator, "cuda").schedule(function or workload.prim_func(), config, target)


def normal(*shapes):
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape, np.float32) for shape in shapes]


def run_serially(schedule, inputs, output):
    """Compile for the CPU a schedule whose thread axes are loops, and run it; what it does not write stays NaN."""
    kernel = tvm.compile(schedule.mod, target=LLVM.tvm)
    result = tvm.runtime.tensor(np.full(output, np.nan, np.float32))
    kernel(*map(tvm.runtime.tensor, inputs), result)
    return result.numpy()


def cuda_source(schedule) -> str:
    return tvm.compile(schedule.mod, target=CUDA.tvm).mod.imports[0].inspect_source()


def run_emulated(schedule, inputs, output):
    """Run the CUDA source of a schedule on the CPU, threads, barriers and shared memory included."""
    source = cuda_source(schedule)
    kernel = source[source.index('extern "C" __global__') :]
    names = [str(parameter.name) for parameter in schedule.mod["main"].params]
    shared = SHARED.findall(kernel)
    program = {
        "KERNEL": kernel,
        "ARGUMENTS": ", ".join(
            f"arguments[{names.index(name)}]" for name in re.findall(r"__restrict__ (\w+)_ptr", kernel[: kernel.index(";")])
        ),
        "SHARED": "\n".join(f"float {name}[{length}];" for name, length in shared),
        "POISON": " ".join(f"std::fill_n({name}, {length}, NAN);" for name, length in shared),
    }
    result = np.full(output, np.nan, np.float32)
    buffers = [*inputs, result]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kernel.cpp").write_text(re.sub("|".join(program), lambda place: program[place[0]], EMULATOR))
        subprocess.run(["g++", "-O1", "-shared", "-fPIC", "-o", "kernel.so", "kernel.cpp"], cwd=folder, check=True)
        launch = ctypes.CDLL(str(Path(folder, "kernel.so"))).launch
    axes = thread_axes(schedule)
    grid, block = ((ctypes.c_int * 3)(*(axes[f"{kind}.{axis}"] for axis in "zyx")) for kind in ("blockIdx", "threadIdx"))
    pointers = (ctypes.c_void_p * len(buffers))(*(buffer.ctypes.data for buffer in buffers))
    assert launch(grid, block, pointers) == 0, "threads of a block passed different numbers of barriers"
    return result


def thread_axes(schedule) -> dict[str, int]:
    """The extent of every thread axis, 1 if nothing is bound to it; all that is bound to one must have one extent."""
    found = defaultdict(set)

    def visit(loop):
        if loop.thread_binding is not None:
            found[str(loop.thread_binding.thread_tag)].add(int(loop.extent))

    tvm_ffi.structural_walk(schedule.mod["main"].body, (tvm.tirx.For, visit), order="post")
    return defaultdict(lambda: 1, {axis: extent for axis, (extent,) in found.items()})


def declared(schedule):
    """What the generated kernel asks of the device: shared bytes, threads along z and in all, blocks along z."""
    shared_bytes = 0
    for _, length in SHARED.findall(cuda_source(schedule)):
        shared_bytes = -(-shared_bytes // 64) * 64 + 4 * int(length)
    axes = thread_axes(schedule)
    threads = [axes[f"threadIdx.{axis}"] for axis in "zyx"]
    return shared_bytes, threads[0], math.prod(threads), axes["blockIdx.z"]


def fused(module):
    """The PrimFunc of the convolution that Relax makes of a module, with the epilogue that it fuses to it."""
    passes = relax.transform
    pipeline = [passes.LegalizeOps(), passes.AnnotateTIROpPattern(), passes.FoldConstant(), passes.FuseOps(), passes.FuseTIR()]
    module = tvm.transform.Sequential(pipeline)(module)
    (function,) = (module[name] for name in module.get_global_vars() if "conv2d" in name.name_hint)
    return function.with_attr("global_symbol", "main")


def recorded(device: str):
    """For every task in a device's logs: its space, what all lines chose as `{knob: (n, ways)}`, and their errors (n)."""
    tasks = defaultdict(list)
    for record in read_records(sorted((RECORDS / "autotvm" / device).glob("*/*.jsonl.gz"))):
        tasks[record.key].append(record)
    for key, records in tasks.items():
        workload = Conv2d.from_args(key.operator, json.loads(key.args))
        space = templates.find(key.operator, "cuda").space(workload, key.target)
        choice = {knob.name: np.array([record.config[knob.name] for record in records]) for knob in space.knobs}
        for knob in space.knobs:
            if isinstance(knob, Split):
                factors = choice[knob.name]
                factors[:, 0] = knob.extent // factors[:, 1:].prod(axis=1)
        yield space, choice, np.array([int(record.measurement.error) for record in records])
