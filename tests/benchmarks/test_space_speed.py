"""How long a knob space takes per configuration: sampling, features, validity, neighbourhoods.

The space is that of ResNet-18's rb1-conv1 on CUDA, 90 316 800 configurations. Run `pytest tests/benchmarks --benchmark-only`;
`extra_info` of the JSON report holds the nanoseconds per configuration.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from search import KnobSpace
from tvm_bridge import templates
from tvm_bridge.networks import layer
from tvm_bridge.target import Target

MANY = 40_000
"""What the transfer of Sun et al. (ICCV 2021) samples and scores at a time (r)."""


@pytest.fixture(scope="module")
def space() -> KnobSpace:
    workload = layer("resnet-18", "rb1-conv1").workload
    return templates.find(workload.operator, "cuda").space(workload, Target("cuda", (("arch", "sm_80"),)))


@pytest.fixture(scope="module")
def knobs(space) -> np.ndarray:
    return space.sample(jax.random.key(0), MANY)


def report(benchmark, configurations: int) -> None:
    """Add the median time per configuration to the report."""
    benchmark.extra_info["configurations"] = configurations
    if benchmark.stats is not None:  # under --benchmark-disable
        benchmark.extra_info["ns_per_configuration"] = round(benchmark.stats.stats.median / configurations * 1e9, 2)


@pytest.mark.parametrize("n", [64, MANY])
def test_sample(benchmark, space, n):
    benchmark(space.sample, jax.random.key(1), n)
    report(benchmark, n)


@pytest.mark.parametrize("question", ["features", "valid"])
def test_numpy(benchmark, space, knobs, question):
    benchmark(getattr(space, question), knobs)
    report(benchmark, MANY)


@pytest.mark.parametrize("question", ["features", "valid"])
def test_jit(benchmark, space, knobs, question):
    answer = eqx.filter_jit(lambda space, knobs: getattr(space, question)(knobs))
    on_device = jnp.asarray(knobs)
    answer(space, on_device)  # compiles
    benchmark(lambda: answer(space, on_device).block_until_ready())
    report(benchmark, MANY)


@pytest.mark.parametrize("radius", [3.0, 4.5])
def test_neighbours(benchmark, space, knobs, radius):
    near = benchmark(space.neighbours, knobs[0], radius)
    report(benchmark, len(near))
