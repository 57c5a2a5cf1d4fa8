"""What the tests of the CUDA templates share: how to run and read a scheduled kernel without a GPU, and the recorded runs."""

import json
import math
import shutil
from collections import defaultdict

import jax
import numpy as np
import pytest
import tvm
from hypothesis import strategies as st
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from search import Split
from tests.records_folder import RECORDS
from tests.tvm_bridge.strategies import convolutions
from tests.tvm_bridge.templates import cuda_emulator
from tvm_bridge import templates
from tvm_bridge.candidates import replaced, unasked
from tvm_bridge.convolution import Conv2d
from tvm_bridge.ptxas import resources
from tvm_bridge.records import read_records
from tvm_bridge.target import Target

CUDA = Target("cuda", (("arch", "sm_80"),))
LLVM = Target("llvm")
INSTANTIATION = 1
"""AutoTVM's error for a configuration that its check of the generated code refused."""

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is needed to run CUDA source on the CPU")
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is needed to ask ptxas")


@I.ir_module
class Residual:
    """The end of a residual block in NHWC, with an activation that reads its argument twice."""

    @R.function
    def main(
        data: R.Tensor((2, 9, 8, 4), "float32"),
        weight: R.Tensor((3, 3, 4, 6), "float32"),
        bias: R.Tensor((1, 1, 1, 6), "float32"),
        shortcut: R.Tensor((2, 5, 8, 6), "float32"),
    ):
        with R.dataflow():
            convolved = R.nn.conv2d(data, weight, (2, 1), (1, 1, 1, 1), data_layout="NHWC", kernel_layout="HWIO")
            result = R.nn.silu(R.add(R.add(convolved, bias), shortcut))
            R.output(result)
        return result


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
    plain = templates.space(workload, CUDA, enlarged=enlarged)
    space = replaced(plain, unasked(plain, {}) | (other or {}))
    seed = draw(st.integers(0, 2**32 - 1))
    if valid:
        rows = space.sample(jax.random.key(seed), 64)
    else:
        options = [range(extent) for extent in space.shape] if space.parts is None else space.parts[0]
        generator = np.random.default_rng(seed)
        rows = np.stack([generator.choice(each, 512) for each in options], axis=1).astype(np.int32)
        if enlarged:  # what is no schedule cannot be asked what it declares
            rows = rows[demands(space).possible(space.choice(rows))]
    return workload, space, few_virtual_threads(space, rows)


def demands(space):
    """What the direct algorithm demands, whether or not it is alone in the space."""
    predicate = space.predicate
    return predicate.alternatives[0].predicate.predicate if hasattr(predicate, "alternatives") else predicate


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

    Where one thread does all, ptxas takes arrays apart as it likes; where there is little, it has laid them 256 bytes apart. It
    does not know of what is allocated at the launch.
    """
    schedule = scheduled(workload, space.to_config(knobs), CUDA)
    launch, *_ = cuda_emulator.launches(schedule, CUDA)
    used = resources(cuda_source(schedule), "sm_80")
    told = demands(space).shared_bytes(space.choice(knobs[None])).item() - launch.dynamic_bytes
    alone = launch.extents("threadIdx") == (1, 1, 1)
    assert alone or used.shared_bytes == told or (told < 256 and used.shared_bytes <= told + 256)
    assert 0 < used.registers <= 255


def declares_what_the_predicate_tells(workload, space, knobs):
    config = space.to_config(knobs) | {"auto_unroll_max_step": 0}  # unrolling declares nothing, and takes long
    shared_bytes, threads_z, threads, blocks_z = declared(scheduled(workload, config, CUDA))
    told, limit = demands(space).shared_bytes(space.choice(knobs[None])).item(), demands(space).limits.shared_bytes
    assert told == shared_bytes or (told > 49_152 and abs(told - shared_bytes) < 64)  # what a launch asks for, TVM lays out
    fits = (told <= min(limit, 49_152) or told + 64 <= limit) and threads_z <= 64 and threads <= 1024 and blocks_z <= 65_535
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


def run_emulated(schedule, inputs, output):
    return cuda_emulator.run_emulated(schedule, CUDA, inputs, output)


def cuda_source(schedule) -> str:
    return cuda_emulator.cuda_source(schedule, CUDA)


def axes(schedule) -> dict[str, int]:
    """The extent of every axis that the first kernel has."""
    return cuda_emulator.launches(schedule, CUDA)[0].axes


def declared(schedule):
    """What the first kernel asks of the device: shared bytes, threads along z and in all, blocks along z."""
    launch, *_ = cuda_emulator.launches(schedule, CUDA)
    shared_bytes = launch.dynamic_bytes
    for length in launch.static:
        shared_bytes = -(-shared_bytes // 64) * 64 + 4 * length
    threads, (blocks_z, *_) = launch.extents("threadIdx"), launch.extents("blockIdx")
    return shared_bytes, threads[0], math.prod(threads), blocks_z


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
