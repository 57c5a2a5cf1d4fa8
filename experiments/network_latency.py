"""Whole networks on this CPU: untuned, tuned by us and by MetaSchedule with as many measurements, and in PyTorch.

    python -m experiments.network_latency tune layouts metaschedule latency report --torch-python PATH/TO/PYTHON

The stages, in the order in which they are done:

- `tune`: one tuning of each network with the largest budget of `--trials` a task. What a smaller budget would have found is
  what its first measurements found, since a tuning does not know how long it will go on.
- `layouts`: the same in NHWC, and the layouts that a minimum cut chooses by both, with transpositions measured.
- `metaschedule`: MetaSchedule's `tune_relax`, the same operators. It does not know how long it will go on either: one tuning
  with the largest budget of `--metaschedule-trials`, in rounds of the smallest.
- `latency`: all of them and PyTorch take turns, of so many runs that a network finds the caches as it left them.
- `report`: `experiments/results/network_latency.{md,json,png}`, of what the other stages have found so far; turns of other
  networks, or with more forms, stay in it.

Everything goes to `out/network_latency/<threads>-threads` as it is found. Stopped at any point, the same command goes on there;
a network that MetaSchedule was at starts over.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import log, metaschedule, metaschedule_network, network_latency_report
from experiments.command import ended
from experiments.kernel_cases import process, target
from experiments.memory import PeakMemory
from experiments.torch_networks import TorchNetwork
from tvm_bridge.arguments import Parser, fail, positive
from tvm_bridge.network import jobs
from tvm_bridge.network.compile import TOLERANCE, CompiledNetwork, compile_network
from tvm_bridge.network.extract import Extraction, extract_tasks
from tvm_bridge.network.layouts import LayoutChoice, choose_layouts, in_layout
from tvm_bridge.network.load import Network, load_network
from tvm_bridge.network.running import Running
from tvm_bridge.network.tune import tune_network
from tvm_bridge.records import FOLDER_LOG, Record, read_records
from tvm_bridge.target import host_cores

NETWORKS = ("resnet-18", "mobilenet-v1", "squeezenet-v1.1")
ROUNDS = 12
"""How often the networks and PyTorch change places."""
ROUND = 8
"""Measurements of a task in one round: with fewer a task, a tuning's rounds would depend on its budget."""
CANDIDATE_LIMIT = 60.0
"""Seconds that a candidate of MetaSchedule may take on average, its search included."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do stages; returns the exit code: 0, 2 for wrong input, 130 after Ctrl-C."""
    parser = Parser(prog="network_latency", description="Networks untuned, tuned, by MetaSchedule and in PyTorch.")
    parser.add_argument("stages", nargs="+", choices=tuple(STAGES), metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NETWORK", help="by the names of `load_network`")
    parser.add_argument("--threads", type=positive, default=host_cores(), help="of a kernel; the target's num-cores")
    parser.add_argument("--trials", type=positive, nargs="+", default=[20, 60], help="measurements a task, ours")
    parser.add_argument("--metaschedule-trials", type=positive, nargs="+", default=[20, 60], help="as many, by MetaSchedule")
    parser.add_argument("--runs", type=positive, default=600, help="of each network")
    parser.add_argument("--torch-python", metavar="PYTHON", help="an interpreter with PyTorch, which is left out otherwise")
    parser.add_argument("--out", type=Path, default=Path("out/network_latency"), help="the folder of what is measured")
    parser.add_argument("--results", type=Path, default=network_latency_report.RESULTS, help="the folder of the report")
    arguments = parser.parse_args(argv)
    if min(arguments.trials) < ROUND:
        return fail("network_latency", ValueError(f"--trials: {min(arguments.trials)} is less than a round, {ROUND}."))
    arguments.folder = arguments.out / f"{arguments.threads}-threads"

    def work() -> int:
        for stage, do in STAGES.items():
            if stage in arguments.stages:
                do(arguments)
        return 0

    return ended("network_latency", work, f"{arguments.out} keeps what was found, the same command goes on")


def _extraction(name: str, arguments: argparse.Namespace) -> Extraction:
    return extract_tasks(load_network(name), target(arguments.threads))


def _tune(arguments: argparse.Namespace) -> None:
    """Tune each network; the seconds and the memory of each call are noted."""
    for name in arguments.networks:
        _tuned(_extraction(name, arguments), arguments.folder / name / "ours", arguments)


def _layouts(arguments: argparse.Namespace) -> None:
    """Tune each network in NHWC, and choose layouts."""
    for name in arguments.networks:
        folder, network = arguments.folder / name, load_network(name)
        converted = in_layout(network, "NHWC")
        _tuned(extract_tasks(converted, target(arguments.threads)), folder / "nhwc", arguments)
        both = [*_records(folder / "ours"), *_records(folder / "nhwc")]
        print(_choice(network, both, folder, arguments), flush=True)


def _choice(network: Network, records: Sequence[Record], folder: Path, arguments: argparse.Namespace) -> LayoutChoice:
    return choose_layouts(network, target(arguments.threads), records=records, log=folder / "transpositions.jsonl")


def _tuned(extraction: Extraction, folder: Path, arguments: argparse.Namespace) -> None:
    """Tune a network into a folder, unless that was done."""
    trials = max(arguments.trials) * len(extraction.tasks)
    if _measured(_records(folder)) >= trials:
        return
    began = time.perf_counter()
    with PeakMemory() as memory:
        try:
            print(tune_network(extraction, trials=trials, log=folder), flush=True)
        finally:
            line = {"trials": trials, "seconds": time.perf_counter() - began, "peak_bytes": memory.peak}
            log.append(folder / "calls.jsonl", line)


def _metaschedule(arguments: argparse.Namespace) -> None:
    """Let MetaSchedule tune each network, in another process."""
    for name in arguments.networks:
        folder = arguments.folder / name / "metaschedule"
        trials = max(arguments.metaschedule_trials) * len(_extraction(name, arguments).tasks)
        if metaschedule.finished(folder, trials):
            continue
        batch = min(*arguments.metaschedule_trials, metaschedule.BATCH)
        with process(arguments.threads) as worker, PeakMemory() as memory:
            job = (metaschedule_network.tune, name, target(arguments.threads), folder, trials, batch)
            outcome = worker.call(*job, limit=trials * CANDIDATE_LIMIT)
        if outcome.failure:
            raise RuntimeError(f"{name}: MetaSchedule failed: {outcome.message}")
        measured, seconds = metaschedule.spent(folder)
        print(f"{name}: {measured} measurements of MetaSchedule in {seconds:.0f} s", flush=True)
        log.append(folder / "memory.jsonl", {"peak_bytes": memory.peak})


def _latency(arguments: argparse.Namespace) -> None:
    """Run the networks in turns, unless as many runs of the same measurements are known."""
    for name in arguments.networks:
        networks = dict(_compiled(name, arguments))
        counts = {what: each.measured for what, each in networks.items()}
        done = {line["what"]: line for line in network_latency_report.last_turns(arguments.folder / name)}
        wanted = {*networks, *(["pytorch"] if arguments.torch_python else [])}
        enough = wanted <= set(done) and all(len(done[what]["seconds"]) >= arguments.runs for what in wanted)
        if enough and all(done[what]["records"] == counts[what] for what in networks):
            continue
        measured, device = _in_turns(name, {what: each.compiled for what, each in networks.items()}, arguments)
        turns = {"device": device, "timestamp": time.time(), "turn": -(-arguments.runs // ROUNDS)}
        lines = [
            {
                "what": what,
                "seconds": seconds,
                "records": counts.get(what),
                "tasks": networks[what].tasks if what in networks else 0,
            }
            for what, seconds in measured.items()
        ]
        log.append(arguments.folder / name / "latency.jsonl", *[line | turns for line in lines])


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
    for each in arguments.trials:
        if _measured(records) >= each * tasks:
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


def _in_turns(
    name: str, networks: dict[str, CompiledNetwork], arguments: argparse.Namespace
) -> tuple[dict[str, list[float]], str]:
    """The seconds of every run, and the device; first of all, that all compute what PyTorch does, or the untuned network."""
    runs, device = -(-arguments.runs // ROUNDS), ""
    seconds: dict[str, list[float]] = {what: [] for what in networks}
    with ExitStack() as stack:
        running = stack.enter_context(Running(list(networks.values())))
        torch = None
        if arguments.torch_python:
            torch = stack.enter_context(TorchNetwork(arguments.torch_python, name, threads=arguments.threads))
            seconds["pytorch"] = []
        outputs = running.call(jobs.results)
        expected = torch.output(jobs.random_inputs(networks["untuned"].inputs)[0]) if torch else outputs[0]
        for what, output in zip(networks, outputs, strict=True):
            apart = np.abs(output - expected).max() / np.abs(expected).max()
            if not apart <= TOLERANCE:
                raise RuntimeError(f"{name}: {what} differs from what is expected by {apart:.2g} of the largest output.")
            print(f"{name}: {what} agrees with {'PyTorch' if torch else 'the untuned network'} to {apart:.1g}", flush=True)
        running.call(jobs.latencies, [3] * len(networks))  # the first runs wake threads and fill caches
        for turn in range(ROUNDS):
            for place, what in enumerate(networks):  # one after the other: a network's runs find the caches as it left them
                measured, device = running.call(jobs.latencies, [runs if other == what else 0 for other in networks])
                seconds[what] += measured[place]
            if torch is not None:
                torch.seconds(3)
                seconds["pytorch"] += torch.seconds(runs)
            print(f"{name}: {turn + 1} of {ROUNDS} rounds of latencies", flush=True)
    return seconds, device


def _report(arguments: argparse.Namespace) -> None:
    """Write the tables and the picture."""
    network_latency_report.write(arguments.folder, arguments.networks, arguments.results)


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    "tune": _tune,
    "layouts": _layouts,
    "metaschedule": _metaschedule,
    "latency": _latency,
    "report": _report,
}


if __name__ == "__main__":
    sys.exit(main())
