"""How long `gausstune` thinks in a tuning of 256 measurements on this machine's CPU, and what part of the tuning that is.

Of a search alone, every measurement a formula; and of a tuning, every measurement real. The process is warm: a new one also
traces and loads what JAX compiles. Run `pytest tests/benchmarks/test_thinking_speed.py --benchmark-only`; that takes minutes.
"""

import time

import jax
import numpy as np
import pytest

import tvm_bridge as bridge
from search import KnobSpace, Source
from search.methods.gausstune import gausstune
from tvm_bridge import networks
from tvm_bridge.target import Target
from tvm_bridge.task import Task, task_of

TRIALS, TAUGHT = 256, 128
LAYERS = [("resnet-18", "rb3-conv2"), ("mobilenet-v1", "sp-3-dp1")]
OTHERS = {
    "resnet-18": ("rb1-conv1", "rb2-conv2", "rb4-conv2"),
    "mobilenet-v1": ("sp-1-dp1", "sp-2-dp1", "sp-7-dp1"),
}
"""Layers whose spaces have the same features."""


def task(network: str, layer: str) -> Task:
    return task_of(networks.layer(network, layer).workload, Target("llvm").resolve(), label=f"{network} {layer}")


def throughput(space: KnobSpace, knobs: np.ndarray) -> np.ndarray:
    """A formula that a process can learn."""
    x = np.log1p(np.asarray(space.features(knobs)))
    weights = np.random.default_rng(0).normal(size=x.shape[1])
    return 50 * np.exp(np.tanh(x @ weights / 8))


def measured(space: KnobSpace, number: int) -> Source:
    knobs = space.sample(jax.random.key(number), TAUGHT)
    return Source(f"layer {number}", space, knobs, throughput(space, knobs))


@pytest.mark.parametrize("taught", [False, True], ids=["alone", "history"])
@pytest.mark.parametrize(("network", "layer"), LAYERS)
def test_search(benchmark, network, layer, taught):
    space = task(network, layer).space
    history = [measured(task(network, other).space, n) for n, other in enumerate(OTHERS[network])] if taught else []
    rounds: list[float] = []

    def search() -> None:
        rounds.clear()
        method = gausstune(space, key=jax.random.key(0), history=history)
        told, known = None, 0
        while known < TRIALS:
            began = time.perf_counter()
            batch = next(method) if told is None else method.send(told)
            rounds.append(time.perf_counter() - began)
            told, known = throughput(space, batch), known + len(batch)

    benchmark.pedantic(search, rounds=3, warmup_rounds=1)
    benchmark.extra_info["longest_round_s"] = round(max(rounds), 3)


@pytest.mark.parametrize(("network", "layer"), LAYERS)
def test_tuning(benchmark, network, layer):
    result = benchmark.pedantic(bridge.tune, (task(network, layer),), {"trials": TRIALS, "progress": False}, rounds=1)
    whole = result.seconds_searching + result.seconds_measuring
    benchmark.extra_info["thinking_s"] = round(result.seconds_searching, 2)
    benchmark.extra_info["thinking_share"] = round(result.seconds_searching / whole, 4)
