"""What a process does that runs whole networks: load libraries, feed them, time them in turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tvm_bridge.measure.jobs import local_device

Inputs = Sequence[tuple[str, tuple[int, ...], str]]


def machine(executable: Any, kind: str) -> Any:
    """A virtual machine that runs a compiled network on this machine's CPU or first GPU."""
    from tvm import relax

    return relax.VirtualMachine(executable, _device(kind))


def export(executable: Any, path: str) -> None:
    """Write a compiled network: linked (.so), or as objects to be linked elsewhere (.tar)."""
    from tvm.support.tar import tar

    executable.export_library(path, **({"fcompile": tar} if path.endswith(".tar") else {}))


def random_inputs(inputs: Inputs) -> list[np.ndarray]:
    """Inputs like normalised images, the same at each call."""
    generator = np.random.default_rng(0)
    return [generator.normal(size=shape).astype(dtype) for _, shape, dtype in inputs]


def outputs_of(network: Any, inputs: Sequence[np.ndarray], kind: str) -> np.ndarray | list[np.ndarray]:
    """Run a network and fetch its result, a list where it has several."""
    import tvm

    result = network["main"](*(tvm.runtime.tensor(each, _device(kind)) for each in inputs))
    return result.numpy() if hasattr(result, "numpy") else [each.numpy() for each in result]


def latencies(paths: Sequence[str], inputs: Inputs, kind: str, runs: int, warmup: int = 3) -> tuple[list[list[float]], str]:
    """Seconds of every run of each library, in turns so that a drifting machine favours none, and the device's name."""
    import tvm

    networks = [machine(tvm.runtime.load_module(path), kind) for path in paths]
    arguments = [tvm.runtime.tensor(each, _device(kind)) for each in random_inputs(inputs)]
    seconds: list[list[float]] = [[] for _ in paths]
    for run in range(-warmup, runs):
        for place, network in enumerate(networks):
            before = time.perf_counter()
            network["main"](*arguments)
            _device(kind).sync()
            if run >= 0:
                seconds[place].append(time.perf_counter() - before)
    return seconds, str(local_device(kind))


def compare(paths: Sequence[str], inputs: Inputs, kind: str, runs: int) -> tuple[list[list[float]], float]:
    """Seconds of every run of two libraries, and how far their outputs lie apart as a share of the first's largest."""
    import tvm

    first, second = (outputs_of(machine(tvm.runtime.load_module(path), kind), random_inputs(inputs), kind) for path in paths)
    pairs = zip(*(each if isinstance(each, list) else [each] for each in (first, second)), strict=True)
    apart = max(float(np.abs(other - one).max() / (np.abs(one).max() or 1.0)) for one, other in pairs)
    return latencies(paths, inputs, kind, runs, warmup=1)[0], apart


def _device(kind: str) -> Any:
    import tvm

    return tvm.device("cpu" if kind == "llvm" else kind, 0)
