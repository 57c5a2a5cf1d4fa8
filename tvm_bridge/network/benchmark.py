"""How fast compiled networks are: the latencies of many runs, and the papers' measures of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tvm_bridge.network import jobs
from tvm_bridge.network.compile import CompiledNetwork
from tvm_bridge.network.running import Running

LATENCY_LOG = "latency.jsonl"
"""The log of latencies in the folder of a network's tuning."""

BLOCKS = 20
"""Runs are spread over so many calls, so that a slow network and one with few runs are there all the time."""


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
    runs: int | Mapping[str, int] = 600,
    log: str | os.PathLike[str] | None = None,
) -> dict[str, Latency]:
    """Measure the latency of compiled networks, in turns so that a drifting machine favours none.

    They run in a process of their own on as many threads as their target has cores. 600 runs are the papers' protocol (Sun et
    al., DATE 2021, section V).

    **Arguments:**

    - `networks`: one ("tuned"), or several by name, with the same inputs.
    - `runs`: of each, or by name.
    - `log`: the folder of the network's tuning, or a .jsonl file; the latencies are appended to it.

    **Raises:** `ValueError` naming the argument that does not fit, `DeviceError` if their device is not here, `RuntimeError` if
    a network does not run.
    """
    named = {"tuned": networks} if isinstance(networks, CompiledNetwork) else dict(networks)
    if not named:
        raise ValueError("networks: there is none; give a compiled network, or several by name.")
    wanted = [runs if isinstance(runs, int) else runs.get(name, 0) for name in named]
    if min(wanted) < 1:
        raise ValueError(f"runs: {runs} must be at least 1 for each of {', '.join(named)}.")
    seconds: dict[str, list[float]] = {name: [] for name in named}
    device, blocks = "", min(BLOCKS, max(wanted))
    try:
        with Running(list(named.values())) as running:
            running.call(jobs.latencies, [1] * len(named))  # the first run of each wakes threads and fills caches
            for block in range(blocks):
                counts = [each * (block + 1) // blocks - each * block // blocks for each in wanted]
                measured, device = running.call(jobs.latencies, counts)
                for name, its in zip(named, measured, strict=True):
                    seconds[name] += its
    finally:  # what was measured before Ctrl-C is kept
        latencies = {name: Latency(np.array(its), device) for name, its in seconds.items() if its}
        if log is not None and latencies:
            _append(Path(log), latencies)
    return latencies


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
    path = path if path.suffix == ".jsonl" else path / LATENCY_LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    now = time.time()  # the same for all: only what took turns is compared
    with path.open("a") as file:
        for name, each in measured.items():
            line = {"what": name, "seconds": each.seconds.tolist(), "device": each.device, "timestamp": now}
            file.write(json.dumps(line) + "\n")
