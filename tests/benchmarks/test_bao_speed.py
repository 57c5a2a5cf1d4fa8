"""How long a step of BAO takes, and its parts: the neighbourhood, the two models, the scores of all neighbours.

The space is that of ResNet-18's rb1-conv1 on CUDA. The centre is the best of 300 measured configurations, the radius the larger
one of the paper. Run `pytest tests/benchmarks --benchmark-only`.
"""

import jax
import numpy as np
import pytest

from search import KnobSpace
from search.bao import bao, highest
from surrogates.ensemble import BootstrapEnsemble
from surrogates.xgboost import XGBoost
from tvm_bridge import templates
from tvm_bridge.networks import layer
from tvm_bridge.target import Target

pytest.importorskip("xgboost", reason="needs the extra xgboost")

KEY = jax.random.key(0)
MEASURED = 300
REACH = 4.5
LOSSES = ["rank", "reg"]


@pytest.fixture(scope="module")
def space() -> KnobSpace:
    workload = layer("resnet-18", "rb1-conv1").workload
    return templates.find(workload.operator, "cuda").space(workload, Target("cuda", (("arch", "sm_80"),)))


@pytest.fixture(scope="module")
def knobs(space) -> np.ndarray:
    return space.sample(KEY, MEASURED)


def throughput(space, knobs) -> np.ndarray:
    """A formula that trees can learn, with failures."""
    x = np.asarray(space.features(knobs))
    return np.maximum(x[:, 0] + x[:, 1] * x[:, 2] + x[:, 5] * x[:, 4] - x[:, 3] ** 2, 0)


def fitted(space, knobs, loss: str) -> BootstrapEnsemble:
    return BootstrapEnsemble(XGBoost(loss=loss)).fit(space.features(knobs), throughput(space, knobs), key=KEY)


def test_neighbourhood(benchmark, space, knobs):
    centre = knobs[np.argmax(throughput(space, knobs))]
    near = benchmark(space.neighbours, centre, REACH, limit=1 << 15, key=KEY)
    benchmark.extra_info["configurations"] = len(near)


@pytest.mark.parametrize("loss", LOSSES)
def test_models(benchmark, space, knobs, loss):
    model = benchmark(fitted, space, knobs, loss)
    benchmark.extra_info["trees"] = [len(member.state.trees.leaf) for member in model.state]


@pytest.mark.parametrize("n", [435, 28_000])
def test_choice(benchmark, space, knobs, n):
    scorer, candidates = fitted(space, knobs, "rank").scorer(), space.sample(KEY, n)
    benchmark(highest, space, scorer, candidates, 1, key=KEY)


@pytest.mark.parametrize("loss", LOSSES)
def test_step(benchmark, space, knobs, loss):
    """Everything between two measurements; every step has one point more than the last."""
    search = bao(space, knobs, throughput(space, knobs), key=KEY, surrogate=XGBoost(loss=loss))
    chosen = next(search)

    def step():
        nonlocal chosen
        chosen = search.send(throughput(space, chosen))

    benchmark.pedantic(step, rounds=30, warmup_rounds=3)


@pytest.mark.parametrize("n", [128, 4096])
@pytest.mark.parametrize("by", ["walk", "xgboost"])
def test_hundred_trees(benchmark, space, knobs, n, by):
    """The same trees walked by the scorer, as annealing does, and by XGBoost itself."""
    import xgboost

    x, y = np.asarray(space.features(knobs)), throughput(space, knobs)
    points = np.asarray(space.features(space.sample(KEY, n)))
    if by == "walk":
        scorer, on_device = XGBoost(rounds=100, patience=100, loss="reg").fit(x, y, key=KEY).scorer(), jax.device_put(points)
        scorer(on_device)  # compiles
        benchmark(lambda: scorer(on_device).block_until_ready())
    else:
        booster = xgboost.train({"max_depth": 3, "eta": 0.3, "nthread": 1}, xgboost.DMatrix(x, y), 100)
        benchmark(booster.inplace_predict, points)
