"""What the tests of the CPU templates share: targets, workloads with a configuration, and how a scheduled kernel is run."""

from dataclasses import replace

import jax
import numpy as np
import tvm
from hypothesis import strategies as st
from tvm import relax

from tests.tvm_bridge.strategies import convolutions
from tvm_bridge import packing, templates
from tvm_bridge.build import compiled
from tvm_bridge.convolution import Conv2d
from tvm_bridge.target import Target

HOST = Target.parse("llvm").resolve()
AVX512 = Target.parse({"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 2})
AVX2 = Target.parse({"kind": "llvm", "mcpu": "haswell", "num-cores": 2})
NEON = Target.parse({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "num-cores": 2})

VECTOR_ARITHMETIC = {
    AVX512: (r"v(?:fmadd|mul)\w+ps\s.*%zmm", r"v(?:fmadd|mul)\w+ss\s"),
    AVX2: (r"v(?:fmadd|mul)\w+ps\s.*%ymm", r"v(?:fmadd|mul)\w+ss\s|zmm"),
    NEON: (r"f(?:mla|mul)\s+v\d+\.4s", r"f(?:madd|mul)\s+s\d"),
}
"""How assembly shows arithmetic on whole vector registers, and how it shows any on less."""


@st.composite
def configured(draw, *, depthwise: bool = False, layout: str = "NCHW", target: Target = HOST):
    """A convolution and one valid configuration of it."""
    workload = draw(convolutions(depthwise=depthwise, layout=layout))
    return workload, sample(workload, target, draw(st.integers(0, 2**32 - 1)))


@st.composite
def awkward(draw, *, depthwise: bool = False, layout: str = "NCHW") -> tuple[Conv2d, Target]:
    """A convolution of any size and divisibility, only to be counted, and a target of any width, number of cores and caches."""
    channels = draw(st.integers(2, 100) | st.sampled_from([127, 256, 1000]))
    filters = channels if depthwise else draw(st.integers(1, 100) | st.sampled_from([127, 256, 1000]))
    kernel = draw(st.integers(1, 7))
    rows, columns = (draw(st.integers(kernel, 40) | st.sampled_from([97, 224])) for _ in range(2))
    padding = (draw(st.integers(0, kernel - 1)),) * 4
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    weight = (filters, 1 if depthwise else channels, kernel, kernel)
    data = (draw(st.integers(1, 3)), channels, rows, columns)
    workload = Conv2d(data, weight, stride, padding, groups=channels if depthwise else 1, layout=layout)
    return workload, draw(targets())


@st.composite
def targets(draw) -> Target:
    """A CPU of any vector unit, number of cores and caches, too small ones and unknown ones among them."""
    target = draw(st.sampled_from([AVX512, AVX2, NEON]))
    cores, caches = draw(st.sampled_from([1, 2, 3, 6, 7, 64])), draw(st.sampled_from([(), (1,), (1, 1), (1 << 15, 1 << 18)]))
    return replace(Target.parse(target.to_json() | {"num-cores": cores}), caches=caches)


def sample(workload: Conv2d, target: Target = HOST, seed: int = 0):
    space = templates.find(workload.operator, "llvm").space(workload, target)
    (knobs,) = space.sample(jax.random.key(seed), 1)
    return space.to_config(knobs)


def parts(workload: Conv2d, target: Target = HOST, *options: str):
    """The parts of the enlarged space whose algorithm is chosen by all of some options, each a space."""
    space = templates.space(workload, target, enlarged=True)
    chosen = [dict(alternative.chosen) for alternative in space.predicate.alternatives]
    return [part for part, each in zip(space.by_part(), chosen, strict=True) if all(map(each.get, options))]


def sample_part(workload: Conv2d, *options: str, target: Target = HOST, seed: int = 0):
    """A configuration of the first of these parts."""
    space = parts(workload, target, *options)[0]
    (knobs,) = space.sample(jax.random.key(seed), 1)
    return space.to_config(knobs)


def accepted(workload: Conv2d, target: Target) -> float:
    """The share of uniformly drawn configurations that the predicate admits."""
    space = templates.find(workload.operator, "llvm").space(workload, target)
    return space.valid(np.random.default_rng(0).integers(0, space.shape, (1 << 16, len(space.shape)))).mean()


def scheduled(workload: Conv2d, config, target: Target = HOST, function=None):
    template = templates.find(workload.operator, "llvm")
    return template.schedule(function or workload.prim_func(), config, target).mod["main"]


def computes(function, inputs, expected, ways=(False, True)):
    """Check a scheduled function on inputs whose second is the weight: as it is, and with the weight packed ahead of time.

    `ways` are both, or one of them: whether it is packed ahead. Each is a kernel of its own to compile.
    """
    data, weight, *rest = inputs
    for packed in ways:
        kernel, packers = packing.split(function) if packed else (function, {})
        library = compiled({"kernel": kernel, **packing.by_name(packers)}, HOST)
        second = call(library["pack_1"], [weight], kernel.params[1].shape) if packers else weight
        result = call(library["kernel"], [data, second, *rest], expected.shape)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def call(kernel, inputs, shape):
    """Run a kernel; what it does not write of its output stays NaN."""
    output = np.full([int(extent) for extent in shape], np.nan, np.float32)
    tensors = [tvm.runtime.tensor(array) for array in (*inputs, output)]
    kernel(*tensors)
    return tensors[-1].numpy()


def normal(*shapes):
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape, np.float32) for shape in shapes]


def assembly(function, target: Target) -> str:
    kernel, _ = packing.split(function)
    return compiled({"main": kernel}, target).mod.inspect_source("asm")


def fused(module):
    """The PrimFunc of the convolution that Relax makes of a module, with the epilogue that it fuses to it."""
    passes = relax.transform
    module = passes.LegalizeOps()(passes.DecomposeOpsForInference()(module))
    for each in (passes.AnnotateTIROpPattern, passes.FoldConstant, passes.FuseOps, passes.FuseTIR):
        module = each()(module)
    (function,) = (function for name, function in module.functions_items() if "conv2d" in name.name_hint)
    return function
