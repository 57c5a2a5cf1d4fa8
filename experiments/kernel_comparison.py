"""One layer's kernels in turns: our best, MetaSchedule's best, PyTorch's calls, oneDNN's kernels.

All are timed one call at a time, as oneDNN times itself, and a turn is their median: what disturbs a call counts for nobody.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from experiments import metaschedule, roofline
from experiments.kernel_cases import Case, Missing, process
from experiments.torch_convolution import EAGER, KERNELS, Torch
from tvm_bridge import Record, read_records
from tvm_bridge.measure import jobs

ROUNDS = 7
"""Turns that everybody takes."""
SECONDS = 0.15
"""How long a turn of each is about; it has nine calls at least."""
PATIENT = 300.0
"""Seconds that a build, the reference or a turn may take."""


def compared(case: Case, torch: Torch | None, tunings: Iterable[Mapping], known: Mapping | None = None) -> dict | None:
    """Compare the kernels of a layer.

    **Arguments:**

    - `case`: the layer, tuned before.
    - `torch`: what times PyTorch and oneDNN; None leaves them out.
    - `tunings`: lines `{"layer", "seconds"}`, of how long our tuning took.
    - `known`: the line of an earlier comparison.

    **Returns:** the layer's line, with the seconds of every turn in `times`; None if `known` has all that can be measured, and
    nothing better can have been found since.

    **Raises:** `Missing` if the layer was not tuned, or a kernel fails.
    """
    best = case.best
    if best is None:
        raise Missing(f"{case.label}: not tuned yet; run the stage `tune` first.")
    trials, seconds = metaschedule.spent(case.searched)
    wanted = {"ours", *(["metaschedule"] if trials else []), *([*EAGER, *KERNELS] if torch else [])}
    if (
        known
        and known["index"] == best.index
        and known["tuning"]["metaschedule"][0] == trials
        and wanted <= set(known["times"])
    ):
        return None
    records = [record for record in read_records(case.records) if record.key == case.task.key]
    untuned = [record.measurement.cost for record in records if record.config is None and record.measurement.ok]
    times, implementations, device = _turns(case, best, torch, searched=trials > 0)
    ours = sum(line["seconds"] for line in tunings if line["layer"] == case.label)
    return {
        **{"layer": case.label, "group": case.group, "threads": case.threads, "device": device},
        **{"operations": case.layer.workload.flop, "bytes": roofline.traffic(case.layer.workload)},
        **{"algorithm": _algorithm(best), "index": best.index, "config": best.config},
        **{"times": times | {"untuned": untuned}, "implementations": implementations},
        **{"torch": torch.version if torch else None},
        "tuning": {"ours": [sum(record.config is not None for record in records), ours], "metaschedule": [trials, seconds]},
    }


def _turns(
    case: Case, best: Record, torch: Torch | None, *, searched: bool
) -> tuple[dict[str, list[float | None]], dict[str, str], str]:
    """Seconds of everybody's turns (None for a kernel that there is not), oneDNN's names for its kernels, and the device."""
    times: dict[str, list[float | None]] = defaultdict(list)
    implementations: dict[str, str] = {}
    with process(case.threads) as worker, tempfile.TemporaryDirectory() as folder:

        def done(function: Any, *args: Any) -> Any:
            outcome = worker.call(function, *args, limit=PATIENT)
            if outcome.failure or isinstance(outcome.value, (jobs.Failure, jobs.Unreachable)):
                raise Missing(f"{case.label}: {outcome.message or outcome.value.message}.")
            return outcome.value

        space, config = case.task.space, best.config
        config = config and space.to_config(space.from_config(config))  # a log leaves the first factors out
        kernels = {"ours": done(jobs.build, case.subject, config, f"{folder}/ours.so")}
        if searched:
            built = done(metaschedule.build, case.subject, case.searched, f"{folder}/metaschedule.so")
            kernels |= {"metaschedule": built} if built else {}
            times["metaschedule"] += [] if built else [None]
        device = done(jobs.prepare, case.subject, None, 0.0, True)
        timing = jobs.Timing(repeat=max(9, round(SECONDS / best.measurement.cost)), min_repeat_ms=0)
        for _ in range(ROUNDS):
            for name, built in kernels.items():
                times[name].append(statistics.median(done(jobs.run, built, case.task.target.kind, timing)))
            for name, answer in (torch.measure(case.layer.workload, case.threads, SECONDS) if torch else {}).items():
                times[name].append(answer["seconds"] if answer else None)
                if answer and "implementation" in answer:
                    implementations[name] = answer["implementation"]
    return times, implementations, device


def _algorithm(record: Record) -> str:
    """How a configuration computes a convolution."""
    extent = record.config and record.config.get("winograd")
    return f"Winograd F({extent}x{extent}, 3x3)" if extent else "untuned" if record.config is None else "direct"
