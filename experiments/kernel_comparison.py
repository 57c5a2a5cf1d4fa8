"""One layer's kernels in turns: our best, MetaSchedule's best, PyTorch's calls, oneDNN's kernels.

All are timed one call at a time, as oneDNN times itself, and a turn is the median of its calls; of oneDNN's times, which are
coarser, it is the mean of the middle half. Either way, what disturbs a call counts for nobody.
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
from tvm_bridge import Record
from tvm_bridge.measure import jobs

ROUNDS = 7
"""Turns that everybody takes."""
SECONDS = 0.15
"""How long a turn of ours, PyTorch's or oneDNN's is about; it has nine calls at least. MetaSchedule's has as many as ours."""
JOB_LIMIT = 300.0
"""Seconds that a build, the reference or a turn may take."""
WHOSE = {"ours": "our kernel", "metaschedule": "MetaSchedule's kernel"}


def compared(case: Case, torch: Torch | None, tunings: Iterable[Mapping], known: Mapping | None = None) -> dict | None:
    """Compare the kernels of a layer.

    **Arguments:**

    - `case`: the layer, tuned before.
    - `torch`: what times PyTorch and oneDNN; None leaves them out.
    - `tunings`: lines `{"layer", "seconds"}`, of how long our tuning took; a session that was killed has left none.
    - `known`: the line of an earlier comparison.

    **Returns:** the layer's line, with the seconds of every turn in `times`, and in `failure` why MetaSchedule's kernel has
    none; None if `known` has all that can be measured, and nothing was tuned since.

    **Raises:** `Missing` if the layer was not tuned, or if our kernel, PyTorch or the reference fails.
    """
    best = case.best
    if best is None:
        raise Missing(f"{case.label}: not tuned yet; run the stage `tune` first.")
    trials, seconds = metaschedule.spent(case.searched)
    ours = sum(line["seconds"] for line in tunings if line["layer"] == case.label)
    tuning = {"ours": [case.measured, ours], "metaschedule": [trials, seconds]}
    wanted = {"ours", *(["metaschedule"] if trials else []), *([*EAGER, *KERNELS] if torch else [])}
    if known and known["tuning"] == tuning and wanted <= set(known["times"]):
        return None
    found = _turns(case, best, torch, searched=trials > 0)
    default = [record.measurement for record in case.measurements if record.config is None]
    found["times"]["untuned"] = [measurement.cost for measurement in default if measurement.ok]
    return {
        **{"layer": case.label, "group": case.group, "threads": case.threads},
        **{"operations": case.layer.workload.flop, "bytes": roofline.traffic(case.layer.workload)},
        **{"algorithm": _algorithm(best), "index": best.index, "config": best.config},
        **{"torch": torch.version if torch else None, "tuning": tuning},
        **found,
    }


def _turns(case: Case, best: Record, torch: Torch | None, *, searched: bool) -> dict[str, Any]:
    """Let everybody take turns.

    **Returns:** these fields of the layer's line:

    - `times`: seconds of everybody's turns; None for a kernel that there is not, or that fails.
    - `implementations`: oneDNN's names for its kernels.
    - `device`: what it is timed on.
    - `failure`: why MetaSchedule's kernel fails; empty if it does not.
    """
    times: dict[str, list[float | None]] = defaultdict(list)
    implementations: dict[str, str] = {}
    failure = ""
    space, config = case.task.space, best.config
    config = config and space.to_config(space.from_config(config))  # a log leaves the first factors out
    builds: dict[str, tuple[Any, ...]] = {"ours": (jobs.build, case.subject, config)}
    if searched:
        builds["metaschedule"] = (metaschedule.build, case.subject, case.searched)
    kernels: dict[str, jobs.Built] = {}
    timing = jobs.Timing(repeat=max(9, round(SECONDS / best.measurement.cost)), min_repeat_ms=0)
    with process(case.threads) as worker, tempfile.TemporaryDirectory() as folder:

        def done(whose: str, function: Any, *args: Any) -> Any:
            outcome = worker.call(function, *args, limit=JOB_LIMIT)
            if outcome.failure or isinstance(outcome.value, (jobs.Failure, jobs.Unreachable)):
                raise Missing(f"{case.label}: {whose}: {outcome.message or outcome.value.message}.")
            return outcome.value

        def prepared() -> str:
            return done("the reference", jobs.prepare, case.subject, None, 0.0, True)

        device = prepared()
        for _ in range(ROUNDS):
            for name, job in list(builds.items()):
                try:
                    if name not in kernels:
                        kernels[name] = done(WHOSE[name], *job, f"{folder}/{name}.so")
                    turn = done(WHOSE[name], jobs.run, kernels[name], case.task.target.kind, timing)
                    times[name].append(statistics.median(turn))
                except Missing as error:
                    if name == "ours":
                        raise
                    del builds[name]
                    times[name] = [None]
                    failure = str(error)
                    worker.stop()  # a kernel that fails may have written where it should not
                    prepared()
            for name, answer in (_asked(torch, case) if torch else {}).items():
                times[name].append(answer["seconds"] if answer else None)
                if answer and "implementation" in answer:
                    implementations[name] = answer["implementation"]
    return {"times": times, "implementations": implementations, "device": device, "failure": failure}


def _asked(torch: Torch, case: Case) -> dict[str, dict[str, Any]]:
    """A turn of PyTorch's calls and oneDNN's kernels."""
    try:
        return torch.measure(case.layer.workload, case.threads, SECONDS)
    except (RuntimeError, OSError) as error:
        raise Missing(f"{case.label}: PyTorch: {error}.") from error


def _algorithm(record: Record) -> str:
    """How a configuration computes a convolution."""
    extent = record.config and record.config.get("winograd")
    return f"Winograd F({extent}x{extent}, 3x3)" if extent else "untuned" if record.config is None else "direct"
