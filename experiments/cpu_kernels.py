"""Our best kernels of networks' layers on this CPU beside MetaSchedule's, PyTorch's and oneDNN's, and beside the roofline.

    python -m experiments.cpu_kernels tune metaschedule roofline compare random report --torch-python PATH/TO/PYTHON

The stages, in the order in which they are done:

- `tune`: our tuning of each layer, `--trials` measurements: half of them in NCHW, half in NHWC, as oneDNN has both layouts.
- `metaschedule`: MetaSchedule's in NCHW, as many measurements if it finds so many candidates, weights free in layout.
- `roofline`: the machine's peaks with so many threads.
- `compare`: layer by layer, the best kernels of both, PyTorch and oneDNN take turns in one run.
- `random`: random valid configurations in NCHW and in NHWC, how long they compile and how slow they are.
- `report`: `experiments/results/cpu_kernels.{md,json,png}`, of what the other stages have found so far; layers that were not
  compared anew stay in it.

Everything goes to `out/cpu_kernels/<threads>-threads` as it is found. Stopped at any point, the same command goes on there; a
layer that MetaSchedule was at starts over.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from experiments import cpu_kernels_report, log, metaschedule, roofline
from experiments.command import Complain, complaining
from experiments.kernel_cases import Case, Missing, cases, process, target
from experiments.kernel_comparison import compared
from experiments.random_kernels import sampled
from experiments.torch_convolution import Torch
from tvm_bridge import Local, TuningError, tune
from tvm_bridge.arguments import Parser, positive
from tvm_bridge.progress import Progress
from tvm_bridge.target import host_cores

NETWORKS = ("resnet-18", "mobilenet-v1", "alexnet", "vgg-16", "squeezenet-v1.1")
CANDIDATE_LIMIT = 60.0
"""Seconds that a candidate of MetaSchedule may take on average, its search included, before the layer is given up."""
PEAKS_LIMIT = 600.0
"""Seconds that measuring the machine's peaks may take."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do stages; returns the exit code: 0, 1 if something had to be left out, 2 for wrong input, 130 after Ctrl-C."""
    parser = Parser(prog="cpu_kernels", description="Our best CPU kernels beside MetaSchedule's, PyTorch's and oneDNN's.")
    parser.add_argument("stages", nargs="+", choices=tuple(STAGES), metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NETWORK", help="whose layers")
    parser.add_argument("--layers", nargs="+", metavar="LAYER", help="only layers of these names")
    parser.add_argument("--threads", type=positive, default=host_cores(), help="of a kernel; its target's num-cores")
    parser.add_argument("--trials", type=positive, default=256, help="measurements of each layer, ours and MetaSchedule's")
    parser.add_argument("--configurations", type=positive, default=100, help="how many `random` takes of each layer and layout")
    parser.add_argument("--torch-python", metavar="PYTHON", help="an interpreter with PyTorch, which `compare` lacks otherwise")
    parser.add_argument("--out", type=Path, default=Path("out/cpu_kernels"), help="the folder of what is measured")
    parser.add_argument("--results", type=Path, default=cpu_kernels_report.RESULTS, help="the folder of the report")
    arguments = parser.parse_args(argv)

    def work(complain: Complain) -> None:
        chosen = cases(arguments.networks, arguments.layers, arguments.threads, arguments.out)
        for stage, do in STAGES.items():
            if stage in arguments.stages:
                do(chosen, arguments, complain)

    return complaining("cpu_kernels", work, f"{arguments.out} keeps what was found, the same command goes on")


Stage = Callable[[Sequence[Case], argparse.Namespace, Complain], None]
"""Does what is left to do of some layers, and complains about those that it has to leave out."""


def _tune(chosen: Sequence[Case], arguments: argparse.Namespace, complain: Complain) -> None:
    """Tune; a line of the log is how much a session, stopped but not killed, measured of a layer, and how long it took."""

    def lines(known: list[dict]) -> Iterator[dict]:
        with Local() as measurer:
            shares = -(-arguments.trials // 2), arguments.trials // 2
            halves = [half for case in chosen for half in zip((case, case.channels_last), shares, strict=True)]
            for number, (case, trials) in enumerate(halves, start=1):
                if case.measured >= trials:
                    continue
                measured: list[Progress] = []
                began = time.perf_counter()
                try:
                    tune(
                        case.task,
                        trials=trials,
                        log=case.records,
                        measurer=measurer,
                        callbacks=[measured.append],
                        progress=(number, len(halves)),
                    )
                except TuningError as error:
                    complain(str(error))
                finally:
                    fresh = sum(not progress.reused and progress.record.config is not None for progress in measured)
                    if fresh:
                        yield {"layer": case.label, "trials": fresh, "seconds": time.perf_counter() - began}

    log.extend(chosen[0].folder / "tune.jsonl", lines)


def _metaschedule(chosen: Sequence[Case], arguments: argparse.Namespace, complain: Complain) -> None:
    """Let MetaSchedule tune, in another process."""
    with process(arguments.threads) as worker:
        for case in chosen:
            if not metaschedule.finished(case.searched, arguments.trials):
                batch = min(metaschedule.BATCH, -(-arguments.trials // 2))  # two rounds at least: the second has a model
                job = (metaschedule.tune, case.subject, case.searched, arguments.trials, batch)
                outcome = worker.call(*job, limit=arguments.trials * CANDIDATE_LIMIT)
                trials, seconds = metaschedule.spent(case.searched)
                print(f"{case.label}: {trials} measurements of MetaSchedule in {seconds:.0f} s", flush=True)
                if outcome.failure:
                    complain(f"{case.label}: MetaSchedule failed: {outcome.message}.")
                elif trials < arguments.trials:
                    complain(f"{case.label}: MetaSchedule found {trials} candidates to measure, not {arguments.trials}.")


def _roofline(chosen: Sequence[Case], arguments: argparse.Namespace, complain: Complain) -> None:
    """Measure the machine's peaks once."""

    def lines(known: list[dict]) -> Iterator[dict]:
        if not known:
            with process(arguments.threads) as worker:
                outcome = worker.call(roofline.measure, target(arguments.threads), limit=PEAKS_LIMIT)
            if outcome.failure:
                raise ValueError(f"roofline: the machine's peaks could not be measured: {outcome.message}.")
            yield asdict(outcome.value)

    log.extend(chosen[0].folder / "roofline.jsonl", lines)


def _compare(chosen: Sequence[Case], arguments: argparse.Namespace, complain: Complain) -> None:
    """Compare each layer, unless that was done and nothing came new since."""
    tunings = log.read(chosen[0].folder / "tune.jsonl")

    def lines(known: list[dict]) -> Iterator[dict]:
        last = {line["layer"]: line for line in known}
        with ExitStack() as stack:
            torch = stack.enter_context(Torch(arguments.torch_python)) if arguments.torch_python else None
            for case in chosen:
                try:
                    line = compared(case, torch, tunings, last.get(case.label))
                except Missing as complaint:
                    complain(str(complaint))
                else:
                    if line:
                        print(cpu_kernels_report.Row.of(line), flush=True)
                        if line["failure"]:
                            complain(line["failure"])
                        yield line

    log.extend(chosen[0].folder / "compare.jsonl", lines)


def _random(chosen: Sequence[Case], arguments: argparse.Namespace, complain: Complain) -> None:
    """Try random valid configurations in either layout."""
    both = [half for case in chosen for half in (case, case.channels_last)]
    log.extend(chosen[0].folder / "random.jsonl", lambda known: sampled(both, arguments.configurations, known))


def _report(chosen: Sequence[Case], arguments: argparse.Namespace, complain: Complain) -> None:
    """Write the tables and the picture."""
    cpu_kernels_report.write(chosen[0].folder, arguments.results)


STAGES: dict[str, Stage] = {
    "tune": _tune,
    "metaschedule": _metaschedule,
    "roofline": _roofline,
    "compare": _compare,
    "random": _random,
    "report": _report,
}


if __name__ == "__main__":
    sys.exit(main())
