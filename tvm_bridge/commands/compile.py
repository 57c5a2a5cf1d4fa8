"""`gausstune compile`: a network with the schedules that tuning found, as a library."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_bridge import arguments as common
from tvm_bridge.arguments import Commands
from tvm_bridge.convolution import CHOSEN

if TYPE_CHECKING:
    from tvm_bridge.network.load import Network
    from tvm_bridge.records import Record

TRANSPOSITIONS = "transpositions.jsonl"
"""The log of transpositions in the folder of a network's tuning."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("compile", help="compile a network with what tuning found", description=run.__doc__)
    add_tuned_network(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="SO", help="the library, .so, or .tar of objects")
    parser.add_argument(
        "--export", type=Path, metavar="DIR", help="write the schedules as a MetaSchedule database, too, in place of one there"
    )
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare with the untuned network, which takes the target's device"
    )
    parser.set_defaults(command=run)


def add_tuned_network(parser: argparse.ArgumentParser) -> None:
    """Add what names a network and its schedules."""
    common.add_network(parser, measured=True)
    parser.add_argument(
        "--log",
        type=Path,
        action="append",
        default=[],
        dest="records",
        metavar="LOG",
        help="the folder of the network's tuning, or a log; once for each, if there are several",
    )
    parser.add_argument("--database", type=Path, metavar="DIR", help="a folder with a MetaSchedule database")


def tuned_network(arguments: argparse.Namespace, records: Sequence[Record]) -> Network:
    """The network that `add_tuned_network`'s arguments name, in its layouts; what choosing them measures is kept with a tuning.

    **Raises:** `ValueError` naming the argument where layouts are to be chosen and nothing tells how.
    """
    from tvm_bridge.network.layouts import choose_layouts

    network = common.network(arguments)
    if arguments.layout != CHOSEN:
        return network
    folder = next((path for path in arguments.records if path.is_dir()), None)
    log = None if folder is None else folder / TRANSPOSITIONS
    try:
        choice = choose_layouts(network, arguments.target, records=records, log=log)
    except ValueError as error:
        told = ", ".join(map(str, arguments.records)) or "nothing"
        raise ValueError(
            f"--layout: {CHOSEN} chooses by --log, here {told}, once for each layout's tuning by `gausstune network --layout`: "
            f"{error}"
        ) from error
    print(choice)
    return choice.network


def run(arguments: argparse.Namespace) -> int:
    """Compile a network with the schedules that tuning found, if they make it faster, into a library for TVM's runtime."""
    from tvm_bridge.network.compile import check_library_name, compile_network
    from tvm_bridge.network.database import export_database
    from tvm_bridge.network.extract import extract_tasks
    from tvm_bridge.records import gather

    check_library_name(arguments.output)
    if not arguments.output.absolute().parent.is_dir():
        raise ValueError(f"--output: there is no folder {arguments.output.absolute().parent}.")
    if arguments.export is not None:
        if not arguments.records:
            raise ValueError("--export: needs --log, which has the schedules to write.")
        if arguments.database is not None and arguments.export.resolve() == arguments.database.resolve():
            raise ValueError(f"--export: {arguments.export} is the database to read; name another folder.")
    records = gather("--log", arguments.records)
    extraction = extract_tasks(tuned_network(arguments, records), arguments.target)
    log = records if arguments.records else None
    compiled = compile_network(extraction, log=log, database=arguments.database, check=not arguments.no_check)
    compiled.save(arguments.output)
    if arguments.export is not None:
        export_database(extraction, records, arguments.export, replace=True)
    print(f"{arguments.output}: {len(compiled.tuned)} of {len(extraction.calls)} functions run under a tuned schedule")
    return 0
