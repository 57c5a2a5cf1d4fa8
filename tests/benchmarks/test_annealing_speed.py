"""How long simulated annealing takes to explore 40 000 configurations, beside loops around XGBoost.

The limit is that of Sun et al. (ICCV 2021), the space that of ResNet-18's rb1-conv1 on CUDA. Run `pytest tests/benchmarks
--benchmark-only`; `extra_info` of the JSON report holds the nanoseconds per configuration. The loops explore fewer, for they
take minutes.
"""

import math

import jax
import numpy as np
import pytest

from search import KnobSpace
from search.annealing import anneal
from surrogates import DeepGP
from tvm_bridge import templates
from tvm_bridge.networks import layer
from tvm_bridge.target import Target

EXPLORED = 40_000


@pytest.fixture(scope="module")
def space() -> KnobSpace:
    workload = layer("resnet-18", "rb1-conv1").workload
    return templates.find(workload.operator, "cuda").space(workload, Target("cuda", (("arch", "sm_80"),)))


@pytest.fixture(scope="module")
def data(space) -> tuple[np.ndarray, np.ndarray]:
    """What a surrogate is fitted to: 500 configurations, better the nearer they are to one of them."""
    x = space.features(space.sample(jax.random.key(0), 500))
    return x, 1000 * np.exp(-((x - x[0]) ** 2).mean(axis=1))


def report(benchmark, explored: int) -> None:
    """Add the median time per configuration to the report."""
    if benchmark.stats is not None:  # under --benchmark-disable
        benchmark.extra_info["ns_per_configuration"] = round(benchmark.stats.stats.median / explored * 1e9, 2)


@pytest.mark.benchmark(group="40 000 configurations annealed")
@pytest.mark.parametrize("inducing", [64, 128])
@pytest.mark.parametrize("excluded", [0, 1000])
def test_deep_gp(benchmark, space, data, inducing, excluded):
    scorer = DeepGP(hidden=(10, 14), inducing=inducing, epochs=5).fit(*data, key=jax.random.key(1)).scorer()
    exclude = space.sample(jax.random.key(2), excluded)

    def search():
        return anneal(space, scorer, key=jax.random.key(0), patience=None, explored=EXPLORED, exclude=exclude)

    search()  # compiles
    assert benchmark(search).explored > EXPLORED - 128
    report(benchmark, EXPLORED)


def annealed_in_python(space, score, *, chains: int, steps: int, keep: int = 64) -> list[tuple[float, tuple[int, ...]]]:
    """The same search as a loop: chain after chain moves one knob, as in AutoTVM, and their moves are scored together."""
    generator = np.random.default_rng(0)
    knobs = space.sample(jax.random.key(0), chains)
    scores = score(space.features(knobs))
    scale, best = scores.std() or 1.0, {}
    for step in range(steps):
        moves = knobs.copy()
        for row in moves:
            while True:
                column = generator.integers(len(space.shape))
                option = row[column]
                row[column] = generator.integers(space.shape[column])
                if space.valid(row[None])[0]:
                    break
                row[column] = option
        new = score(space.features(moves))
        heat = 0.1 * scale * (1 - step / (steps + 1))
        for chain in range(chains):
            best[tuple(moves[chain])] = new[chain]
            if new[chain] >= scores[chain] or generator.random() < math.exp((new[chain] - scores[chain]) / heat):
                knobs[chain], scores[chain] = moves[chain], new[chain]
    return sorted(((score, knobs) for knobs, score in best.items()), reverse=True)[:keep]


@pytest.mark.benchmark(group="fewer configurations annealed")
@pytest.mark.parametrize(("chains", "steps"), [(1, 1000), (128, 50)])
def test_xgboost_in_python(benchmark, space, data, chains, steps):
    xgboost = pytest.importorskip("xgboost")
    parameters = {"max_depth": 3, "eta": 0.3, "nthread": 1}
    booster = xgboost.train(parameters, xgboost.DMatrix(*data), num_boost_round=100)

    def score(x):
        return booster.predict(xgboost.DMatrix(x))

    benchmark.pedantic(lambda: annealed_in_python(space, score, chains=chains, steps=steps), rounds=1)
    report(benchmark, chains * steps)
