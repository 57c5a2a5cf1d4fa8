"""Random valid configurations of layers: how long each compiles, how long its kernel runs, how many are near the best."""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from experiments.kernel_cases import CHANNELS_LAST, Case, process
from experiments.kernel_comparison import OURS
from tvm_bridge.measure import jobs
from tvm_bridge.measure.base import ErrorCategory

KERNEL_LIMIT = 60.0
"""Seconds that a build and a run may take: more than a tuner would wait, so that what is slow is seen."""
REPEAT = 5
"""Milliseconds of a repeat at least: single runs of some microseconds differ by a factor of two."""
REFERENCE_LIMIT = 300.0
"""Seconds that a layer's reference may take."""
SLOW = 4.0
"""A configuration is near the best if it takes at most so many times as long."""
LONG = 1.0
"""Seconds that hardly any build should take."""


def sampled(chosen: Iterable[Case], count: int, known: Iterable[Mapping]) -> Iterator[dict]:
    """Build and run `count` configurations of each layer, one at a time, but for those in `known`.

    **Returns:** lines with the seconds of a `build` and those of a run, which are None after a `failure`.

    **Raises:** `ValueError` naming the layer whose reference fails.
    """
    done = {(line["layer"], line["index"]) for line in known}
    with process(1) as builder, tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            space = case.task.space
            rows = space.sample(jax.random.key(0), count)
            indices = space.to_index(rows)
            with process(case.threads) as runner:
                for index, row in zip(indices, rows, strict=True):
                    if (case.label, index) in done:
                        continue
                    # A name of its own for each library: a process that has loaded one takes it for any of the same name.
                    job = (jobs.build, case.subject, space.to_config(row), f"{folder}/{index}.so")
                    if not builder.alive:
                        builder.call(*job, limit=KERNEL_LIMIT)  # the first build of a process loads what all need
                    if not runner.alive:
                        device = runner.call(jobs.prepare, case.subject, None, 0.0, True, limit=REFERENCE_LIMIT)
                        if not isinstance(device.value, str):
                            raise ValueError(f"{case.label}: the reference: {device.message or device.value.message}.")
                    outcome = built = builder.call(*job, limit=KERNEL_LIMIT)
                    if isinstance(built.value, jobs.Built):
                        timing = jobs.Timing(repeat=9, min_repeat_ms=REPEAT)
                        outcome = runner.call(jobs.run, built.value, case.task.target.kind, timing, limit=KERNEL_LIMIT)
                        Path(built.value.path).unlink()
                    if isinstance(outcome.value, jobs.Failure) and outcome.value.error is ErrorCategory.UNKNOWN:
                        raise ValueError(f"{case.label}: {outcome.value.message}.")
                    worked = isinstance(outcome.value, list)
                    if not worked and outcome is not built:
                        runner.stop()  # a kernel that fails may have written where it should not
                    yield {
                        **{"layer": case.label, "index": index, "build": built.seconds},
                        "seconds": statistics.median(outcome.value) if worked else None,
                        "failure": "" if worked else outcome.message or outcome.value.message,
                    }


def shares(lines: Iterable[Mapping], compared: Iterable[Mapping]) -> list[dict]:
    """Of each layer's random configurations: the share near the best, how many failed, how long they compiled.

    The best is the fastest that is known in the layer's own layout, of the comparison or of the random ones.
    """
    best = {
        line["layer"] + suffix: statistics.median(line["times"].get(ours, [np.inf]))
        for line in compared
        for ours, suffix in zip(OURS, ("", CHANNELS_LAST), strict=True)
    }
    grouped: dict[str, list[Mapping]] = defaultdict(list)
    for line in lines:
        grouped[line["layer"]].append(line)
    found = []
    for layer, group in grouped.items():
        seconds = np.array([line["seconds"] or np.inf for line in group])
        builds = np.array([line["build"] for line in group])
        fastest = min(best.get(layer, np.inf), seconds.min())
        found.append(
            {
                "layer": layer,
                "configurations": len(group),
                "near": float(np.mean(np.isfinite(seconds) & (seconds <= SLOW * fastest))),
                "failed": sum(line["seconds"] is None for line in group),
                "compile": float(np.quantile(builds, 0.99)),
                "long": float(np.mean(builds > LONG)),
            }
        )
    return found
