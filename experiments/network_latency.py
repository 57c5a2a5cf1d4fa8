r"""Whole networks on this CPU or GPU: untuned, tuned by us and by MetaSchedule with as many measurements, and in PyTorch.

    python -m experiments.network_latency tune layouts metaschedule latency report --torch-python PATH/TO/PYTHON
    python -m experiments.network_latency tune --target cuda --networks resnet-18 --minutes 8
    python -m experiments.network_latency latency report --target cuda --networks resnet-18 --minutes 5 \
        --torch-python PATH/TO/PYTHON --torch-compiled --torch-tf32

The stages, in the order in which they are done:

- `tune`: one tuning of each network with the largest budget of `--trials` a task. What a smaller budget would have found is
  what its first measurements found, since a tuning does not know how long it will go on.
- `layouts`: the same in NHWC, and the layouts that a minimum cut chooses by both, with transpositions measured.
- `metaschedule`: MetaSchedule's `tune_relax`, the same operators. It does not know how long it will go on either: one tuning
  with the largest budget of `--metaschedule-trials`, in rounds of the smallest.
- `latency`: all of them and PyTorch take turns, of so many runs that a network finds the caches as it left them.
- `report`: `experiments/results/network_latency.{md,json,png}`, of what the other stages have found so far; turns of other
  networks, or with more forms, stay in it. For a GPU `network_latency_cuda`.

Everything goes to `out/network_latency/<threads>-threads`, of a GPU to `out/network_latency/cuda`, as it is found. Stopped at
any point, by `--minutes` for example, the same command goes on there; a network that MetaSchedule was at starts over, and so do
turns that were not all taken. A tuning that reached no budget takes turns too: "gausstune, 13" after 13 measurements a task.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from experiments import log, metaschedule, metaschedule_network, network_latency_report, network_turns
from experiments.command import ended
from experiments.kernel_cases import process, target
from experiments.memory import PeakMemory
from experiments.network_turns import Torch
from experiments.torch_networks import MODES, TorchForm
from tvm_bridge.arguments import Parser, fail, positive
from tvm_bridge.measure.base import DeviceError
from tvm_bridge.measure.jobs import Unreachable, local_device
from tvm_bridge.network.compile import CompiledNetwork, compile_network
from tvm_bridge.network.extract import Extraction, extract_tasks
from tvm_bridge.network.layouts import LayoutChoice, choose_layouts, in_layout
from tvm_bridge.network.load import Network, load_network
from tvm_bridge.network.tune import tune_network
from tvm_bridge.records import FOLDER_LOG, Record, read_records
from tvm_bridge.target import host_cores

NETWORKS = ("resnet-18", "mobilenet-v1", "squeezenet-v1.1")
ROUND = 8
"""Measurements of a task in one round: with fewer a task, a tuning's rounds would depend on its budget."""
CANDIDATE_LIMIT = 60.0
"""Seconds that a candidate of MetaSchedule may take on average, its search included."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do stages; returns the exit code: 0, 2 for wrong input, 130 after Ctrl-C."""
    parser = Parser(prog="network_latency", description="Networks untuned, tuned, by MetaSchedule and in PyTorch.")
    parser.add_argument("stages", nargs="+", choices=tuple(STAGES), metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NETWORK", help="by the names of `load_network`")
    parser.add_argument("--target", default="llvm", help="llvm (this CPU), cuda, or a TVM target as JSON")
    parser.add_argument("--threads", type=positive, default=host_cores(), help="of a kernel on a CPU; the target's num-cores")
    parser.add_argument("--trials", type=positive, nargs="+", default=[20, 60], help="measurements a task, ours")
    parser.add_argument("--metaschedule-trials", type=positive, nargs="+", default=[20, 60], help="as many, by MetaSchedule")
    parser.add_argument("--runs", type=positive, default=600, help="of each network")
    parser.add_argument("--torch-python", metavar="PYTHON", help="an interpreter with PyTorch, which is left out otherwise")
    parser.add_argument(
        "--torch-compiled",
        nargs="*",
        choices=MODES,
        metavar="MODE",
        help=f"PyTorch compiled too, in modes of {', '.join(MODES)}; the first if none is named",
    )
    parser.add_argument("--torch-channels-last", action="store_true", help="PyTorch in channels last too")
    parser.add_argument("--torch-tf32", action="store_true", help="PyTorch with TF32 too, on a GPU")
    parser.add_argument("--minutes", type=positive, help="stop after so many, of all stages; the same command goes on")
    parser.add_argument("--out", type=Path, default=Path("out/network_latency"), help="the folder of what is measured")
    parser.add_argument("--results", type=Path, default=network_latency_report.RESULTS, help="the folder of the report")
    arguments = parser.parse_args(argv)
    if min(arguments.trials) < ROUND:
        return fail("network_latency", ValueError(f"--trials: {min(arguments.trials)} is less than a round, {ROUND}."))
    arguments.deadline = time.monotonic() + 60 * (arguments.minutes or math.inf)

    def work() -> int:
        _prepare(arguments)
        for stage, do in STAGES.items():
            if stage in arguments.stages:
                do(arguments)
        if _left(arguments) <= 0:
            print("network_latency: time is over; the same command goes on", file=sys.stderr)
        return 0

    return ended("network_latency", work, f"{arguments.out} keeps what was found, the same command goes on")


def _prepare(arguments: argparse.Namespace) -> None:
    """Read the target and the forms of PyTorch; what they cannot be is told before any work."""
    arguments.target = target(arguments.threads, arguments.target)
    arguments.gpu = arguments.target.kind != "llvm"
    if not arguments.gpu:
        arguments.threads = arguments.target.threads
    arguments.folder = arguments.out / (arguments.target.kind if arguments.gpu else f"{arguments.threads}-threads")
    if arguments.torch_tf32 and not arguments.gpu:
        raise ValueError("--torch-tf32: a CPU has no TF32; leave it out, or give --target cuda.")
    modes = [] if arguments.torch_compiled is None else arguments.torch_compiled or MODES[:1]
    orders, precisions = ([False, True][: 1 + more] for more in (arguments.torch_channels_last, arguments.torch_tf32))
    forms = itertools.product([None, *modes], orders, precisions) if arguments.torch_python else ()
    arguments.forms = tuple(TorchForm(*form) for form in forms)
    if arguments.gpu and set(arguments.stages) - {"report"}:
        with process(arguments.threads) as worker:
            outcome = worker.call(local_device, arguments.target.kind, limit=60.0)
        if outcome.failure or isinstance(outcome.value, Unreachable):
            said = outcome.message if outcome.failure else "there is none on this machine"
            raise DeviceError(f"--target: no device for {arguments.target}: {said}; run these stages where there is one.")


def _left(arguments: argparse.Namespace) -> float:
    """The seconds that are left of `--minutes`."""
    return arguments.deadline - time.monotonic()


def _extraction(name: str, arguments: argparse.Namespace) -> Extraction:
    return extract_tasks(load_network(name), arguments.target)


def _tune(arguments: argparse.Namespace) -> None:
    """Tune each network; the seconds and the memory of each call are noted."""
    for name in arguments.networks:
        _tuned(_extraction(name, arguments), arguments.folder / name / "ours", arguments)


def _layouts(arguments: argparse.Namespace) -> None:
    """Tune each network in NHWC, and choose layouts."""
    for name in arguments.networks:
        folder, network = arguments.folder / name, load_network(name)
        converted = in_layout(network, "NHWC")
        _tuned(extract_tasks(converted, arguments.target), folder / "nhwc", arguments)
        if _left(arguments) <= 0:
            return
        both = [*_records(folder / "ours"), *_records(folder / "nhwc")]
        print(_choice(network, both, folder, arguments), flush=True)


def _choice(network: Network, records: Sequence[Record], folder: Path, arguments: argparse.Namespace) -> LayoutChoice:
    return choose_layouts(network, arguments.target, records=records, log=folder / "transpositions.jsonl")


def _tuned(extraction: Extraction, folder: Path, arguments: argparse.Namespace) -> None:
    """Tune a network into a folder, unless that was done or no time is left."""
    trials, left = max(arguments.trials) * len(extraction.tasks), _left(arguments)
    if _measured(_records(folder)) >= trials or left <= 0:
        return
    began, limit = time.perf_counter(), None if math.isinf(left) else left
    with PeakMemory() as memory:
        try:
            # A model that ships has measurements of its own behind it.
            print(tune_network(extraction, trials=trials, log=folder, time_limit=limit, pretrained=False), flush=True)
        finally:
            line = {"trials": trials, "seconds": time.perf_counter() - began, "peak_bytes": memory.peak}
            log.append(folder / "calls.jsonl", line)


def _metaschedule(arguments: argparse.Namespace) -> None:
    """Let MetaSchedule tune each network, in another process."""
    for name in arguments.networks:
        folder = arguments.folder / name / "metaschedule"
        trials = max(arguments.metaschedule_trials) * len(_extraction(name, arguments).tasks)
        if metaschedule.finished(folder, trials) or _left(arguments) <= 0:
            continue
        batch = min(*arguments.metaschedule_trials, metaschedule.BATCH)
        with process(arguments.threads, arguments.target) as worker, PeakMemory() as memory:
            tune = partial(metaschedule_network.tune, cores=arguments.threads)
            outcome = worker.call(
                tune, name, arguments.target, folder, trials, batch, limit=min(trials * CANDIDATE_LIMIT, _left(arguments))
            )
        if outcome.failure == "timeout" and _left(arguments) <= 0:
            print(f"{name}: no time is left for MetaSchedule, which starts over", flush=True)
            continue
        if outcome.failure:
            raise RuntimeError(f"{name}: MetaSchedule failed: {outcome.message}")
        measured, seconds = metaschedule.spent(folder)
        print(f"{name}: {measured} measurements of MetaSchedule in {seconds:.0f} s", flush=True)
        log.append(folder / "memory.jsonl", {"peak_bytes": memory.peak})


def _latency(arguments: argparse.Namespace) -> None:
    """Run the networks in turns, unless as many runs of the same measurements are known; each round is kept as it ends."""
    for name in arguments.networks:
        if _left(arguments) <= 0:
            return
        networks = dict(_compiled(name, arguments))
        counts = {what: each.measured for what, each in networks.items()}
        done = {line["what"]: line for line in network_latency_report.last_turns(arguments.folder / name)}
        wanted = {*networks, *map(str, arguments.forms)}
        enough = wanted <= set(done) and all(len(done[what]["seconds"]) >= arguments.runs for what in wanted)
        if enough and all(done[what]["records"] == counts[what] for what in networks):
            continue
        turn = -(-arguments.runs // network_turns.ROUNDS)
        turns = {"began": time.time(), "turn": turn, "target": str(arguments.target)}
        torch = Torch(arguments.torch_python, arguments.threads, arguments.forms) if arguments.forms else None
        compiled = {what: each.compiled for what, each in networks.items()}
        with closing(network_turns.rounds(name, compiled, torch, turn)) as taken:
            for measured, device in taken:
                now = {"device": device, "timestamp": time.time()}
                lines = [
                    {
                        "what": what,
                        "seconds": its,
                        "records": counts.get(what),
                        "tasks": networks[what].tasks if what in networks else 0,
                    }
                    for what, its in measured.items()
                ]
                log.append(arguments.folder / name / "latency.jsonl", *[line | turns | now for line in lines])
                if _left(arguments) <= 0:
                    return


class _Form(NamedTuple):
    """A compiled network, how many measurements there are of the tuning that it rests on, and of how many tasks."""

    compiled: CompiledNetwork
    measured: int
    tasks: int


def _compiled(name: str, arguments: argparse.Namespace) -> Iterator[tuple[str, _Form]]:
    """The compiled networks by what they are."""
    extraction, folder = _extraction(name, arguments), arguments.folder / name
    tasks = len(extraction.tasks)
    yield "untuned", _Form(compile_network(extraction), 0, tasks)
    records = _records(folder / "ours")
    reached = [each for each in arguments.trials if each * tasks <= _measured(records)]
    for each in reached or [*filter(None, [_measured(records) // tasks])]:
        first = first_measurements(records, each * tasks)
        yield f"gausstune, {each}", _Form(compile_network(extraction, log=first, check=False), len(records), tasks)
    yield from _in_layouts(extraction, folder, arguments)
    searched = folder / "metaschedule"
    for each in arguments.metaschedule_trials:
        trials = each * tasks
        if metaschedule.spent(searched)[0] >= trials or metaschedule.finished(searched, trials):
            theirs = metaschedule_network.prepared(extraction)
            database = metaschedule_network.first_rounds(searched, trials, folder / f"metaschedule-{each}")
            measured = metaschedule.spent(searched)[0]
            yield f"metaschedule, {each}", _Form(compile_network(theirs, database=database, check=False), measured, tasks)


def _in_layouts(extraction: Extraction, folder: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, _Form]]:
    """The network in NHWC and in chosen layouts, after the largest budget that both layouts had."""
    network = extraction.network
    converted = extract_tasks(in_layout(network, "NHWC"), extraction.target)
    known, tasks = [_records(folder / layout) for layout in ("ours", "nhwc")], [len(extraction.tasks), len(converted.tasks)]
    budgets = [
        each for each in arguments.trials if all(each * n <= _measured(its) for its, n in zip(known, tasks, strict=True))
    ]
    if budgets:
        each, count = max(budgets), len(known[1])
        ours, theirs = (first_measurements(its, each * n) for its, n in zip(known, tasks, strict=True))
        yield f"gausstune in NHWC, {each}", _Form(compile_network(converted, log=theirs, check=False), count, tasks[1])
        both = [*ours, *theirs]
        chosen = extract_tasks(_choice(network, both, folder, arguments).network, extraction.target)
        yield f"gausstune in chosen layouts, {each}", _Form(compile_network(chosen, log=both, check=False), count, tasks[1])


def _records(folder: Path) -> list[Record]:
    return read_records(folder / FOLDER_LOG) if (folder / FOLDER_LOG).exists() else []


def _measured(records: Sequence[Record]) -> int:
    """How many configurations were measured, TVM's default schedules left out."""
    return sum(record.config is not None for record in records)


def first_measurements(records: Sequence[Record], trials: int) -> list[Record]:
    """What a tuning with a budget of `trials` would have measured: so many configurations, and the default schedules."""
    configurations = itertools.accumulate(record.config is not None for record in records)
    return [record for record, count in zip(records, configurations, strict=True) if count <= trials]


def _report(arguments: argparse.Namespace) -> None:
    """Write the tables and the picture."""
    network_latency_report.write(arguments.folder, arguments.networks, arguments.results, arguments.target.kind)


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    "tune": _tune,
    "layouts": _layouts,
    "metaschedule": _metaschedule,
    "latency": _latency,
    "report": _report,
}


if __name__ == "__main__":
    sys.exit(main())
