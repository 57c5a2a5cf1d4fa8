"""What a process does that runs whole networks: load libraries, feed them, time them in turns."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tvm_bridge.measure.jobs import Unreachable, local_device

Inputs = Sequence[tuple[str, tuple[int, ...], str]]


def machine(executable: Any, kind: str) -> Any:
    """A virtual machine that runs a compiled network on this machine's CPU or first GPU."""
    from tvm import relax

    return relax.VirtualMachine(executable, _device(kind))


def random_inputs(inputs: Inputs) -> list[np.ndarray]:
    """Inputs like normalised images, the same at each call; of whole numbers 0 and 1, which can be indices of anything."""
    generator = np.random.default_rng(0)
    return [
        (generator.normal(size=shape) if np.dtype(dtype).kind == "f" else generator.integers(2, size=shape)).astype(dtype)
        for _, shape, dtype in inputs
    ]


def outputs_of(network: Any, inputs: Sequence[np.ndarray], kind: str) -> np.ndarray | list[np.ndarray]:
    """Run a network and fetch its result, a list where it has several."""
    result = network["main"](*(_tensor(each, kind) for each in inputs))
    return result.numpy() if hasattr(result, "numpy") else [each.numpy() for each in result]


def device(paths: Sequence[str], inputs: Inputs, kind: str) -> str | Unreachable:
    """The name of the device that the libraries run on."""
    return local_device(kind)


def latencies(paths: Sequence[str], inputs: Inputs, kind: str, runs: Sequence[int]) -> tuple[list[list[float]], str]:
    """Seconds of so many runs of each library, in turns so that a drifting machine favours none, and the device's name."""
    networks = [_loaded(path, kind) for path in paths]
    arguments = [_tensor(each, kind) for each in random_inputs(inputs)]
    seconds: list[list[float]] = [[] for _ in paths]
    _device(kind).sync()
    for turn in range(max(runs)):
        for network, wanted, its in zip(networks, runs, seconds, strict=True):
            if turn < wanted:
                before = time.perf_counter()
                network["main"](*arguments)
                _device(kind).sync()
                its.append(time.perf_counter() - before)
    return seconds, str(local_device(kind))


def results(paths: Sequence[str], inputs: Inputs, kind: str) -> list[np.ndarray | list[np.ndarray]]:
    """The outputs of each library for the same random inputs."""
    return [outputs_of(_loaded(path, kind), random_inputs(inputs), kind) for path in paths]


def apart(paths: Sequence[str], inputs: Inputs, kind: str) -> float:
    """How far the outputs of two libraries lie apart, as a share of the first's largest; NaN where one of them is."""
    first, second = results(paths, inputs, kind)
    pairs = zip(*(each if isinstance(each, list) else [each] for each in (first, second)), strict=True)
    doubled = ((np.asarray(one, float), np.asarray(other, float)) for one, other in pairs)
    return float(np.max([np.abs(other - one).max() / (np.abs(one).max() or 1.0) for one, other in doubled]))


@functools.cache
def _loaded(path: str, kind: str) -> Any:
    """A library's virtual machine, loaded once."""
    import tvm

    return machine(tvm.runtime.load_module(path), kind)


def _tensor(value: np.ndarray, kind: str) -> Any:
    import tvm

    return tvm.runtime.tensor(value, _device(kind))


def _device(kind: str) -> Any:
    import tvm

    return tvm.device("cpu" if kind == "llvm" else kind, 0)
