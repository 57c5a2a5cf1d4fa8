"""`gausstune replay`: a search method on recorded measurements."""

from __future__ import annotations

import argparse

from tvm_bridge import arguments as common
from tvm_bridge.arguments import Commands
from tvm_bridge.commands.printing import print_result
from tvm_bridge.measure.base import TuningError


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("replay", help="run a method on recorded measurements", description=run.__doc__)
    parser.add_argument(
        "records",
        nargs="+",
        metavar="RECORDS",
        help="logs (.jsonl, .jsonl.gz), folders of tuned networks, and tables (.json, .json.gz)",
    )
    parser.add_argument("--missing", choices=["error", "fail"], default="error", help="what an unrecorded configuration means")
    common.add_searching(parser, trials=128)
    parser.set_defaults(command=run, pretrained=False)  # a model that ships may have learned these very records


def run(arguments: argparse.Namespace) -> int:
    """Run a search method on recorded measurements; no hardware is used."""
    from tvm_bridge import replay, tune

    tasks = replay(arguments.records, missing=arguments.missing)
    if not tasks:
        raise ValueError(f"{', '.join(arguments.records)}: no record of a measurement.")
    code = 0
    for number, task in enumerate(tasks, start=1):
        try:
            result = tune(
                task,
                method=arguments.method,
                trials=arguments.trials,
                history=arguments.history,
                pretrained=arguments.pretrained,
                seed=arguments.seed,
                early_stopping=arguments.early_stopping,
                time_limit=arguments.time_limit,
                progress=(number, len(tasks)),
            )
        except TuningError as error:  # the other tasks may have some that worked
            common.fail("gausstune", error)
            code = 1
        else:
            print_result(task, result)
    return code
