"""How fast compiled networks are: the latencies of many runs, and the papers' measures of them."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tvm_bridge.measure.process import Worker
from tvm_bridge.network import jobs
from tvm_bridge.network.compile import CompiledNetwork

FOLDER_LOG = "latency.jsonl"
"""The log of latencies in the folder of a network's tuning."""


@dataclass(frozen=True, eq=False)
class Latency:
    """The latencies of a network.

    - `seconds`: one of each run, in order.
    - `device`: what ran it.
    """

    seconds: Float[np.ndarray, " runs"]
    device: str = ""

    @property
    def mean(self) -> float:
        """The mean, in seconds."""
        return float(self.seconds.mean())

    @property
    def variance(self) -> float:
        """The variance, in square seconds, with n - 1 as its denominator."""
        return float(self.seconds.var(ddof=1)) if len(self.seconds) > 1 else 0.0

    def percentile(self, percent: float) -> float:
        """The latency that so many per cent of the runs stay under, in seconds."""
        return float(np.percentile(self.seconds, percent))

    def __str__(self) -> str:
        milliseconds = [1e3 * self.percentile(percent) for percent in (50, 90, 99)]
        return (
            f"mean {self.mean * 1e3:.4g} ms, variance {self.variance * 1e6:.3g} ms^2, "
            f"p50 {milliseconds[0]:.4g}, p90 {milliseconds[1]:.4g}, p99 {milliseconds[2]:.4g} ms, {len(self.seconds)} runs"
        )


def benchmark(
    networks: CompiledNetwork | Mapping[str, CompiledNetwork],
    *,
    runs: int = 600,
    log: str | os.PathLike[str] | None = None,
) -> dict[str, Latency]:
    """Measure the latency of compiled networks, in turns so that a drifting machine favours none.

    They run in a process of their own on as many threads as their target has cores. 600 runs are the papers' protocol (Sun et
    al., DATE 2021, section V).

    **Arguments:**

    - `networks`: one ("tuned"), or several by name, with the same inputs.
    - `runs`: of each.
    - `log`: the folder of the network's tuning, or a file; the latencies are appended to it.

    **Raises:** `ValueError` naming the argument that does not fit, `RuntimeError` if a network does not run.
    """
    named = {"tuned": networks} if isinstance(networks, CompiledNetwork) else dict(networks)
    if runs < 1:
        raise ValueError(f"runs: {runs} must be at least 1.")
    if not named:
        raise ValueError("networks: there is none; give a compiled network, or several by name.")
    first = next(iter(named.values()))
    for name, each in named.items():
        if (each.inputs, each.target) != (first.inputs, first.target):
            raise ValueError(f"networks: {name!r} has other inputs or another target than {next(iter(named))!r}.")
    threads = {"TVM_NUM_THREADS": str(first.target.threads)}
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, f"{place}.so") for place in range(len(named))]
        for each, path in zip(named.values(), paths, strict=True):
            each.save(path)
        worker = Worker(threads)
        try:
            answer = worker.call(jobs.latencies, paths, first.inputs, first.target.kind, runs, limit=3600)
        finally:
            worker.stop()
    if answer.failure:
        raise RuntimeError(f"networks: a compiled network does not run: {answer.failure}, {answer.message}")
    latencies, device = answer.value
    measured = {name: Latency(np.array(seconds), device) for name, seconds in zip(named, latencies, strict=True)}
    if log is not None:
        _append(Path(log), measured)
    return measured


def hypervolume(latency: float, search_seconds: float, *, reference_latency: float, reference_search_seconds: float) -> float:
    r"""HV: the reduction of latency times the reduction of search time, beside a reference, in per cent.

    $HV = (1 - l / l_0) (1 - t / t_0) \cdot 100$, which reproduces every HV of the table of Sun et al. (ICCV 2021).

    **Raises:** `ValueError` if a reference is not positive.
    """
    for name, reference in (
        ("reference_latency", reference_latency),
        ("reference_search_seconds", reference_search_seconds),
    ):
        if not reference > 0:
            raise ValueError(f"{name}: {reference} must be greater than 0.")
    return 100 * (1 - latency / reference_latency) * (1 - search_seconds / reference_search_seconds)


def _append(path: Path, measured: Mapping[str, Latency]) -> None:
    path = path / FOLDER_LOG if path.is_dir() or not path.suffix else path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for name, each in measured.items():
            line = {"what": name, "seconds": each.seconds.tolist(), "device": each.device, "timestamp": time.time()}
            file.write(json.dumps(line) + "\n")
