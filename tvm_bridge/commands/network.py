"""`gausstune network`: tune all tasks of a network under one budget."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tvm_bridge import arguments as common
from tvm_bridge.arguments import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("network", help="tune a network under one budget", description=run.__doc__)
    common.add_network(parser)
    parser.add_argument(
        "--log", type=Path, metavar="DIR", help="keep every measurement in this folder, and go on from what it holds"
    )
    parser.add_argument(
        "--plain", action="store_true", help="choose among AutoTVM's knobs alone, not all that the templates can do"
    )
    common.add_searching(parser, trials=600)
    common.add_measuring(parser)
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Tune all tasks of a network under one budget, and print what was found for each."""
    from tvm_bridge import tune_network

    with common.measurer(arguments) as device:
        result = tune_network(
            common.network(arguments) if arguments.shape or arguments.layout else arguments.model,
            arguments.target,
            trials=arguments.trials,
            log=arguments.log,
            method=arguments.method,
            seed=arguments.seed,
            early_stopping=arguments.early_stopping,
            time_limit=arguments.time_limit,
            history=arguments.history,
            pretrained=arguments.pretrained,
            measurer=device,
            enlarged=not arguments.plain,
        )
    print(result)
    print(f"{result.seconds_searching:.1f} s searching, {result.seconds_measuring:.1f} s measuring")
    if arguments.log is None:
        print("gausstune: nothing was kept for `gausstune compile`; with --log DIR it is", file=sys.stderr)
    return 0 if any(each.result for each in result.tasks) else 1
