"""Search methods on a GPU, after 64 to 400 measurements, beside MetaSchedule with as many and beside cuDNN.

    python -m experiments.cuda_comparison tune metaschedule judge report --torch-python PATH/TO/PYTHON --minutes 9

The stages, in the order in which they are done:

- `tune`: every method tunes layers of ResNet-18 and MobileNet-v1. Random search on the other layers, and logs that `--history`
  names, teach `dgp-transfer`, which cannot do without a history; with `--taught` they teach the others that learn once more.
- `metaschedule`: MetaSchedule tunes each layer with as many measurements.
- `judge`: what each tuning held best after each number of measurements, MetaSchedule's best after as many, TVM's default
  schedule, and PyTorch with TF32 off and on take turns, a layer at a time.
- `report`: `experiments/results/cuda_comparison.{md,json,png}`, of what the other stages have found so far.

Everything goes to `out/cuda_comparison/<kind of target>-<space>` as it is found. Stopped at any point, by `--minutes` or by a
machine that goes away, the same command goes on there, on any machine with the same GPU: that folder is all it needs. A layer
that MetaSchedule was at, or that was being judged, starts over. A stage takes all the time that is left: with little of it, do
one seed through all stages (`--seeds 1`) before the next. JAX thinks on the CPU, whatever else it could have.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax

from experiments import cuda_comparison_report, log, metaschedule
from experiments.command import Complain, complaining
from experiments.cuda_rivals import CuDNN, MetaSchedule, cuda_torch, process
from experiments.device_comparison import Setting, tuned, tunings, unfinished
from experiments.device_judgement import Judging, Rival
from experiments.method_comparison import applies
from search.methods import METHODS
from tvm_bridge import Target, networks
from tvm_bridge.arguments import Parser, positive
from tvm_bridge.gpu_state import gpu_state

METHODS_COMPARED = ("random", "gausstune", "dgp-transfer", "bted-bao", "autotvm")
LAYERS = (
    ("resnet-18", "rb1-conv1"),
    ("mobilenet-v1", "sp-7-conv2"),
    ("mobilenet-v1", "sp-7-dp1"),
    ("resnet-18", "rb3-conv2"),
    ("mobilenet-v1", "sp-3-dp1"),
    ("resnet-18", "rb2-conv1"),
    ("resnet-18", "rb4-conv2"),
    ("mobilenet-v1", "sp-3-conv2"),
    ("resnet-18", "conv0"),
    ("resnet-18", "rb2-conv2"),
)
"""Different ones first: a run may be stopped anywhere."""
TIMES_MS = 10
"""Least milliseconds of a time: a kernel takes some microseconds, and nobody else is at the GPU."""
CANDIDATE_LIMIT = 30.0
"""Seconds that a candidate of MetaSchedule may take on average, its search included, before the layer is given up."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do stages; returns the exit code: 0, 1 if something is left to do, 2 for wrong input, 130 after Ctrl-C."""
    arguments = _parser().parse_args(argv)
    until = math.inf if arguments.minutes is None else time.time() + 60 * arguments.minutes
    platforms = os.environ.setdefault("JAX_PLATFORMS", "cpu")  # on the GPU it would take most of the memory, and disturb
    jax.config.update("jax_platforms", platforms)

    def work(complain: Complain) -> None:
        compared = setting(arguments)
        for stage, do in STAGES.items():
            if stage in arguments.stages:
                do(compared, arguments, complain, until)

    return complaining("cuda_comparison", work, f"{arguments.out} keeps what was found, the same command goes on")


def _parser() -> Parser:
    parser = Parser(prog="cuda_comparison", description="Search methods on a GPU, beside MetaSchedule and cuDNN.")
    parser.add_argument("stages", nargs="+", choices=tuple(STAGES), metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=METHODS_COMPARED, metavar="METHOD")
    parser.add_argument(
        "--layers", nargs="+", default=[f"{network}/{layer}" for network, layer in LAYERS], metavar="NETWORK/LAYER"
    )
    parser.add_argument("--seeds", type=positive, default=3, help="of each method on each layer, one after the other")
    parser.add_argument(
        "--trials",
        type=positive,
        nargs="+",
        default=[64, 128, 256, 400],
        help="measurements after which the best is judged; as many as the largest are made",
    )
    parser.add_argument(
        "--enlarged", action="store_true", help="tune in all that the templates can do, not AutoTVM's knobs alone"
    )
    parser.add_argument("--taught", action="store_true", help="methods that learn but need no history tune with one, too")
    parser.add_argument("--history", type=Path, nargs="+", default=[], metavar="LOG", help="more of it: logs of other tasks")
    parser.add_argument("--at-once", type=positive, default=1, help="tunings that share the cores: some think, one measures")
    parser.add_argument("--rounds", type=positive, default=5, help="turns of a judged kernel, of which the fastest counts")
    parser.add_argument("--torch-python", metavar="PYTHON", help="an interpreter with PyTorch, which `judge` lacks otherwise")
    parser.add_argument(
        "--minutes", type=positive, help="begin nothing after so many; a method that thinks then ends its thought"
    )
    parser.add_argument("--target", default="cuda", help="cuda, llvm (this CPU) to try the stages, or a TVM target as JSON")
    parser.add_argument("--out", type=Path, default=Path("out/cuda_comparison"), help="the folder of what is measured")
    parser.add_argument("--results", type=Path, default=cuda_comparison_report.RESULTS, help="the folder of the report")
    return parser


def setting(arguments: argparse.Namespace) -> Setting:
    """What the arguments compare.

    **Raises:** `ValueError` for a target, network or layer that there is not, `FileNotFoundError` for a log that is not there.
    """
    target = Target.parse(arguments.target).resolve()
    layers = tuple((network, layer) for network, _, layer in (each.partition("/") for each in arguments.layers))
    for each in layers:
        networks.layer(*each)
    if absent := [path for path in arguments.history if not path.exists()]:
        raise FileNotFoundError(f"--history: {absent[0]} is not there.")
    return Setting(
        target.kind,
        arguments.out / f"{target.kind}-{'enlarged' if arguments.enlarged else 'default'}",
        target,
        layers,
        tuple(sorted(set(arguments.trials))),
        min_repeat_ms=TIMES_MS,
        enlarged=arguments.enlarged,
        history=tuple(arguments.history),
        untuned=True,
        at_once=arguments.at_once,
    )


Stage = Callable[[Setting, argparse.Namespace, Complain, float], None]
"""Does what is left to do of a setting, complains about what it has to leave, and begins nothing after a moment."""


def _tune(compared: Setting, arguments: argparse.Namespace, complain: Complain, until: float) -> None:
    histories = {method: _histories(method, taught=arguments.taught) for method in arguments.methods}
    if any("same" in each for each in histories.values()) and not compared.history:
        _check_related(compared)
    wanted = list(tunings(compared, histories, arguments.seeds))
    log.extend(compared.tunings, lambda known: tuned(wanted, known, complain=complain, until=until))
    if left := unfinished(wanted, log.read(compared.tunings)):
        complain(f"tune: {len(left)} of {len(wanted)} tunings are left.")


def _check_related(compared: Setting) -> None:
    """Refuse a layer that no other one is of the same operator as: there is nothing to learn from."""
    operators = [networks.layer(*layer).workload.operator for layer in compared.layers]
    for layer, operator in zip(compared.layers, operators, strict=True):
        if operators.count(operator) == 1:
            raise ValueError(
                f"--layers: no other than {'/'.join(layer)} is a {operator}, so it has no history; add one, name `--history`, "
                "or leave out methods that need one."
            )


def _histories(method: str, *, taught: bool) -> list[str]:
    """With which histories a method tunes: with none if it can, with one if it must, or if it learns and is to."""
    able = [history for history in ("none", "same") if applies(method, history)]
    return able if taught else able[:1]


def _metaschedule(compared: Setting, arguments: argparse.Namespace, complain: Complain, until: float) -> None:
    """Let MetaSchedule tune; a layer that takes as long as the longest so far must have the time."""
    theirs = MetaSchedule(compared)
    left = [layer for layer in compared.layers if not theirs.finished(*layer)]
    longest = max((metaschedule.spent(theirs.folder(*layer))[1] for layer in compared.layers if layer not in left), default=0.0)
    with process(compared) as worker:
        while left and time.time() + longest < until:
            layer = left.pop(0)
            failure = theirs.search(worker, *layer, limit=min(compared.trials * CANDIDATE_LIMIT, until - time.time()))
            trials, seconds = metaschedule.spent(theirs.folder(*layer))
            print(f"{' '.join(layer)}: {trials} measurements of MetaSchedule in {seconds:.0f} s", file=sys.stderr, flush=True)
            if failure:
                complain(f"{' '.join(layer)}: MetaSchedule was not finished: {failure}.")
            else:
                longest = max(longest, seconds)
    if left:
        complain(f"metaschedule: {len(left)} of {len(compared.layers)} layers are left.")


def _judge(compared: Setting, arguments: argparse.Namespace, complain: Complain, until: float) -> None:
    lines = [line for line in log.read(compared.tunings) if (line["network"], line["layer"]) in compared.layers]
    with ExitStack() as stack:
        rivals: list[Rival] = [MetaSchedule(compared)]
        if arguments.torch_python:
            rivals.append(CuDNN(stack.enter_context(cuda_torch(arguments.torch_python)), TIMES_MS))
        alone = replace(compared, at_once=1)
        judging = Judging(alone, arguments.rounds, rivals, _state if compared.target.kind == "cuda" else None)
        log.extend(compared.judgements, lambda known: judging.judged(lines, known, complain=complain, until=until))
        if left := judging.pending(lines, log.read(compared.judgements)):
            complain(f"judge: {len(left)} layers are left.")


def _state() -> dict[str, Any] | str:
    """The GPU's driver, clocks and temperature, or why they are not known."""
    state = gpu_state()
    return state if isinstance(state, str) else asdict(state)


def _report(compared: Setting, arguments: argparse.Namespace, complain: Complain, until: float) -> None:
    cuda_comparison_report.write(compared, arguments.results)


STAGES: dict[str, Stage] = {"tune": _tune, "metaschedule": _metaschedule, "judge": _judge, "report": _report}


if __name__ == "__main__":
    sys.exit(main())
