"""Random valid configurations of layers, one at a time: how long each compiles, and how long its kernel runs."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import jax

from experiments.kernel_cases import Case, process
from tvm_bridge.measure import jobs

PATIENT = 60.0
"""Seconds that a build and a run may take: more than a tuner would wait, so that what is slow is seen."""


def sampled(chosen: Iterable[Case], count: int, known: Iterable[Mapping]) -> Iterator[dict]:
    """Build and run `count` configurations of each layer, but for those in `known`.

    **Returns:** lines with the seconds of a `build` and those of a run, which are None after a `failure`.
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
                        builder.call(*job, limit=PATIENT)  # the first build of a process loads what all need
                    if not runner.alive:
                        runner.call(jobs.prepare, case.subject, None, 0.0, True, limit=5 * PATIENT)
                    outcome = built = builder.call(*job, limit=PATIENT)
                    if isinstance(built.value, jobs.Built):
                        timing = jobs.Timing(repeat=9, min_repeat_ms=0)
                        outcome = runner.call(jobs.run, built.value, case.task.target.kind, timing, limit=PATIENT)
                        Path(built.value.path).unlink()
                    worked = isinstance(outcome.value, list)
                    yield {
                        **{"layer": case.label, "index": index, "build": built.seconds},
                        "seconds": statistics.median(outcome.value) if worked else None,
                        "failure": "" if worked else outcome.message or outcome.value.message,
                    }
