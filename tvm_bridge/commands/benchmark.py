"""`gausstune benchmark`: the latency of a network, untuned and tuned."""

from __future__ import annotations

import argparse
from pathlib import Path

from tvm_bridge import arguments as common
from tvm_bridge.arguments import Commands
from tvm_bridge.commands.compile import add_tuned_network, tuned_network


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("benchmark", help="measure a network's latency before and after", description=run.__doc__)
    add_tuned_network(parser)
    parser.add_argument("--runs", type=common.positive, default=600, help="of the tuned network")
    parser.add_argument("--default-runs", type=common.positive, default=20, help="of the untuned one, which is far slower")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure the latency of a network under TVM's default schedules and under the tuned ones, in turns.

    The latencies are appended to the tuning's folder, where `gausstune report` finds them, if they are of one tuning.
    """
    from tvm_bridge.network.benchmark import benchmark
    from tvm_bridge.network.compile import compile_network
    from tvm_bridge.network.extract import extract_tasks
    from tvm_bridge.records import gather

    records = gather("--log", arguments.records)
    extraction = extract_tasks(tuned_network(arguments, records), arguments.target)
    networks = {"default": compile_network(extraction)}
    if records or arguments.database:
        tuned = compile_network(extraction, log=records, database=arguments.database)
        networks |= {"tuned": tuned} if tuned.tuned else {}
    folder = _folder(arguments)
    runs = {"default": arguments.default_runs, "tuned": arguments.runs}
    for name, latency in benchmark(networks, runs=runs, log=folder).items():
        print(f"{name}: {latency}")
    return 0


def _folder(arguments: argparse.Namespace) -> Path | None:
    """The folder of the network's tuning in its layout; None if it has none, or several."""
    from tvm_bridge.network.folder import layout_asked

    if len(arguments.records) != 1 or not (folder := arguments.records[0]).is_dir():
        return None
    try:
        return folder if layout_asked(folder) == arguments.layout else None
    except FileNotFoundError:  # records that were put there
        return folder
