"""How long BTED takes to choose 64 configurations, beside Algorithms 1 and 2 transcribed into NumPy.

The space is that of ResNet-18's rb1-conv1 on CUDA. Run `pytest tests/benchmarks --benchmark-only`.
"""

import jax
import numpy as np
import pytest

from search import KnobSpace
from search.ted import bted, ted
from tvm_bridge import templates
from tvm_bridge.networks import layer
from tvm_bridge.target import Target


@pytest.fixture(scope="module")
def space() -> KnobSpace:
    workload = layer("resnet-18", "rb1-conv1").workload
    return templates.find(workload.operator, "cuda").space(workload, Target("cuda", (("arch", "sm_80"),)))


def transcribed_ted(x: np.ndarray, count: int, mu: float = 0.1) -> np.ndarray:
    """Algorithm 1 line by line: the kernel is deflated as a whole."""
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    squared = (z**2).sum(axis=1)[:, None] + (z**2).sum(axis=1) - 2 * z @ z.T
    kernel = np.exp(-squared / (2 * x.shape[1]))
    chosen: list[int] = []
    for _ in range(count):
        criterion = (kernel**2).sum(axis=0) / (np.diag(kernel) + mu)
        criterion[chosen] = -np.inf
        v = int(np.argmax(criterion))
        kernel = kernel - np.outer(kernel[:, v], kernel[v]) / (kernel[v, v] + mu)
        chosen.append(v)
    return np.array(chosen)


def transcribed_bted(space: KnobSpace, key, count: int = 64, pool: int = 500, batches: int = 10) -> np.ndarray:
    """Algorithm 2 line by line."""
    union = []
    for batch in jax.random.split(key, batches):
        drawn = space.sample(batch, pool)
        union.append(drawn[transcribed_ted(space.features(drawn), count)])
    union = np.unique(np.concatenate(union), axis=0)
    return union[transcribed_ted(space.features(union), count)]


@pytest.mark.benchmark(group="BTED, 10 x 500 -> 64")
def test_bted(benchmark, space):
    key = jax.random.key(0)
    bted(space, key=key)  # compiles
    assert len(benchmark(lambda: bted(space, key=key))) == 64


@pytest.mark.benchmark(group="BTED, 10 x 500 -> 64")
def test_bted_in_numpy(benchmark, space):
    key = jax.random.key(0)
    assert len(benchmark.pedantic(lambda: transcribed_bted(space, key), rounds=3)) == 64


@pytest.mark.benchmark(group="TED -> 64")
@pytest.mark.parametrize("n", [500, 4000])
def test_ted(benchmark, space, n):
    x = space.features(space.sample(jax.random.key(0), n))
    ted(x, 64)  # compiles
    benchmark(lambda: ted(x, 64))
