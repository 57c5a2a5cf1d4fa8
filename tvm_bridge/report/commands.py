"""The commands that would do a tuning again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from search.methods import METHODS
from tvm_bridge import templates
from tvm_bridge.convolution import CHOSEN, Conv2d
from tvm_bridge.dense import Dense
from tvm_bridge.report.data import TaskRecords, Tuning
from tvm_bridge.target import Target


def commands(tuning: Tuning) -> list[str]:
    """The network's commands in their order, or one for every task whose operator the command line knows.

    A network that was tuned by a method of one's own, or with a history whose path is not known, has no command that goes on
    with its tuning. One whose layouts were chosen has none that chooses them again.

    A log does not say by which method and seed its tasks were searched: their commands leave both at what is usual.
    """
    if tuning.network:
        named = {name: str(tuning.settings[name]) for name in ("method", "trials", "seed") if name in tuning.settings}
        named |= {
            name.replace("_", "-"): str(tuning.settings[name])
            for name in ("early_stopping", "time_limit", "pretrained")
            if name in tuning.settings
        }
        options = [word for name, value in named.items() for word in (f"--{name}", value)]
        options += ["--history", *tuning.history] if tuning.history else []
        target = ["--target", str(tuning.targets[0])] if tuning.targets else []
        plain = [] if tuning.settings.get("enlarged", True) else ["--plain"]
        shapes = [f"{name}={_list(shape)}" for name, shape in tuning.shapes.items()]
        layout = ["--layout", str(tuning.settings["layout"])] if "layout" in tuning.settings else []
        given = [tuning.model, *target, *layout, "--log", tuning.path, *(["--shape", *shapes] if shapes else [])]
        known = tuning.settings.get("method") in METHODS and (tuning.history or "history" not in tuning.settings)
        made = tuning.settings.get("layout") != CHOSEN  # which takes what was measured elsewhere, too
        steps = (
            *([["network", *given, *options, *plain]] if known and made else []),
            *([["benchmark", *given], ["compile", *given, "--output", f"{tuning.path}.so"]] if made else []),
            ["report", tuning.path],
        )
        return [shlex.join(["gausstune", *step]) for step in steps]
    return [shlex.join(_tune(task, tuning.path)) for task in tuning.tasks if task.workload and not task.key.function]


def _tune(task: TaskRecords, log: str) -> list[str]:
    workload = task.workload
    words = ["gausstune", "tune"]
    if isinstance(workload, Conv2d):
        data, weight, _ = workload.shapes
        words += ["conv2d", "--data", _list(data), "--weight", _list(weight)]
        for name, value, usual in (
            ("stride", workload.stride, (1, 1)),
            ("padding", workload.padding, (0, 0, 0, 0)),
            ("dilation", workload.dilation, (1, 1)),
        ):
            words += [f"--{name}", _list(value)] if value != usual else []
        words += ["--groups", str(workload.groups)] if workload.groups > 1 else []
        words += ["--layout", workload.layout] if workload.layout != "NCHW" else []
        words += ["--enlarged"] if _enlarged(task) else []
    elif isinstance(workload, Dense):
        words += ["dense", "--data", _list(workload.data), "--weight", _list(workload.weight)]
    candidates = task.trials[0].candidates if task.trials else {}
    words += [word for knob, options in candidates.items() for word in ("--candidates", f"{knob}={_options(options)}")]
    trials = [] if not task.trials else ["--trials", str(len(task.trials))]
    return [*words, "--target", str(task.key.target), *trials, "--log", log]


def _list(extents: Iterable[int]) -> str:
    return ",".join(map(str, extents))


def _options(options: Iterable[Any]) -> str:
    """A knob's options as the command line takes them, factors as 16x4."""
    return ",".join("x".join(map(str, each)) if isinstance(each, tuple) else str(each) for each in options)


def _enlarged(task: TaskRecords) -> bool:
    """Whether a configuration has a knob that the template has only in its enlarged space.

    The knobs' names depend on the kind of the target alone; the rest of a log's target is not given to TVM: it might crash.
    """
    assert task.workload is not None
    try:
        plain = set(templates.space(task.workload, Target(task.key.target.kind)).names)
    except ValueError:  # no template for this target: the command will say so
        return False
    return any(set(record.config or ()) - plain for record in task.trials)
