"""One layer's kernels in turns: our best of each layout, MetaSchedule's best, PyTorch's calls, oneDNN's kernels.

All are timed one call at a time, as oneDNN times itself, and a turn is the median of its calls; of oneDNN's times, which are
coarser, it is the mean of the middle half. Either way, what disturbs a call counts for nobody.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from experiments import metaschedule, roofline
from experiments.kernel_cases import Case, Missing, process
from experiments.torch_convolution import EAGER, KERNELS, Torch
from tvm_bridge import Record
from tvm_bridge.measure import jobs

ROUNDS = 7
"""Turns that everybody takes."""
SECONDS = 0.15
"""How long a turn of ours, PyTorch's or oneDNN's is about; it has nine calls at least. MetaSchedule's has as many as our
first."""
REST = 0.3
"""Seconds before a turn: the threads of the one before spin for half as long, on cores that all share."""
JOB_LIMIT = 300.0
"""Seconds that a build, the reference or a turn may take."""
OURS = ("ours", "ours_channels_last")
"""Our kernels: for data as the network has it (NCHW), and for channels last. PyTorch's and oneDNN's are in both, too."""
WHOSE = {"ours": "our kernel", "ours_channels_last": "our kernel in NHWC", "metaschedule": "MetaSchedule's kernel"}


def compared(case: Case, torch: Torch | None, tunings: Iterable[Mapping], known: Mapping | None = None) -> dict | None:
    """Compare the kernels of a layer.

    **Arguments:**

    - `case`: the layer, tuned before in one layout at least.
    - `torch`: what times PyTorch and oneDNN; None leaves them out.
    - `tunings`: lines `{"layer", "seconds"}`, of how long our tuning took; a session that was killed has left none.
    - `known`: the line of an earlier comparison.

    **Returns:** the layer's line, with the seconds of every turn in `times`, and in `failure` why MetaSchedule's kernel has
    none; None if `known` has all that can be measured, and nothing was tuned since.

    **Raises:** `Missing` if the layer was not tuned, or if our kernel, PyTorch or the reference fails.
    """
    layouts = dict(zip(OURS, (case, case.channels_last), strict=True))
    best = {name: record for name, each in layouts.items() if (record := each.best)}
    if not best:
        raise Missing(f"{case.label}: not tuned yet; run the stage `tune` first.")
    trials, seconds = metaschedule.spent(case.searched)
    labels = [each.label for each in layouts.values()]
    ours = sum(line["seconds"] for line in tunings if line["layer"] in labels)
    tuning = {
        "ours": [sum(each.measured for each in layouts.values()), ours],
        "metaschedule": [trials, seconds],
    }
    wanted = {*best, *(["metaschedule"] if trials else []), *([*EAGER, *KERNELS] if torch else [])}
    if known and "kernels" in known and known["tuning"] == tuning and wanted <= set(known["times"]):
        return None
    found = _turns(case, {name: (layouts[name], record) for name, record in best.items()}, torch, searched=trials > 0)
    default = [record.measurement for record in case.measurements if record.config is None]
    found["times"]["untuned"] = [measurement.cost for measurement in default if measurement.ok]
    return {
        **{"layer": case.label, "group": case.group, "threads": case.threads},
        **{"operations": case.layer.workload.flop, "bytes": roofline.traffic(case.layer.workload)},
        "kernels": {
            name: {"algorithm": _algorithm(record), "index": record.index, "config": record.config}
            for name, record in best.items()
        },
        **{"torch": torch.version if torch else None, "tuning": tuning},
        **found,
    }


def _turns(case: Case, ours: Mapping[str, tuple[Case, Record]], torch: Torch | None, *, searched: bool) -> dict[str, Any]:
    """Let everybody take turns; `ours` has the case and the best measurement of each of our kernels.

    **Returns:** these fields of the layer's line:

    - `times`: seconds of everybody's turns; None for a kernel that there is not, or that fails.
    - `implementations`: oneDNN's names for its kernels.
    - `device`: what it is timed on.
    - `failure`: why MetaSchedule's kernel fails; empty if it does not.
    """
    times: dict[str, list[float | None]] = defaultdict(list)
    implementations: dict[str, str] = {}
    failure = ""
    builds = {
        name: _Build(each, (jobs.build, each.subject, best.config and each.task.own(best.config)), best)
        for name, (each, best) in ours.items()
    }
    if searched:
        job = metaschedule.build, case.subject, case.searched
        builds["metaschedule"] = _Build(case, job, next(iter(ours.values()))[1])
    kernels: dict[str, jobs.Built] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        layouts = {build.case.label: build.case for build in builds.values()}
        workers = {label: stack.enter_context(process(case.threads)) for label in layouts}

        def done(label: str, whose: str, function: Any, *args: Any) -> Any:
            outcome = workers[label].call(function, *args, limit=JOB_LIMIT)
            if outcome.failure or isinstance(outcome.value, (jobs.Failure, jobs.Unreachable)):
                raise Missing(f"{case.label}: {whose}: {outcome.message or outcome.value.message}.")
            return outcome.value

        def prepared(label: str) -> str:
            return done(label, "the reference", jobs.prepare, layouts[label].subject, None, 0.0, True)

        device, *_ = [prepared(label) for label in layouts]
        for _ in range(ROUNDS):
            for name, build in list(builds.items()):
                label = build.case.label
                try:
                    if name not in kernels:
                        kernels[name] = done(label, WHOSE[name], *build.job, f"{folder}/{name}.so")
                    time.sleep(REST)
                    timing = jobs.Timing(repeat=max(9, round(SECONDS / build.best.measurement.cost)), min_repeat_ms=0)
                    turn = done(label, WHOSE[name], jobs.run, kernels[name], case.task.target.kind, timing)
                    times[name].append(statistics.median(turn))
                except Missing as error:
                    if name in OURS:
                        raise
                    del builds[name]
                    times[name] = [None]
                    failure = str(error)
                    workers[label].stop()  # a kernel that fails may have written where it should not
                    prepared(label)
            time.sleep(REST)
            for name, answer in (_asked(torch, case) if torch else {}).items():
                times[name].append(answer["seconds"] if answer else None)
                if answer and "implementation" in answer:
                    implementations[name] = answer["implementation"]
    return {"times": times, "implementations": implementations, "device": device, "failure": failure}


@dataclass(frozen=True)
class _Build:
    """A kernel to build: of what, the job, and the measurement that says how many calls a turn has."""

    case: Case
    job: tuple[Any, ...]
    best: Record


def _asked(torch: Torch, case: Case) -> dict[str, dict[str, Any]]:
    """A turn of PyTorch's calls and oneDNN's kernels."""
    try:
        return torch.measure(case.layer.workload, threads=case.threads, seconds=SECONDS)
    except (RuntimeError, OSError) as error:
        raise Missing(f"{case.label}: PyTorch: {error}.") from error


def _algorithm(record: Record) -> str:
    """How a configuration computes a convolution."""
    extent = record.config and record.config.get("winograd")
    return f"Winograd F({extent}x{extent}, 3x3)" if extent else "untuned" if record.config is None else "direct"
