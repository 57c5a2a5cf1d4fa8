"""`gausstune best`: the fastest configuration of every task in logs."""

from __future__ import annotations

import argparse
import json

from tvm_bridge.arguments import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("best", help="print the fastest configuration of every task in logs", description=run.__doc__)
    parser.add_argument("logs", nargs="+", metavar="LOG", help="logs (.jsonl, .jsonl.gz), or a tuned network's folder")
    parser.add_argument("--json", action="store_true", help="print the records' own lines")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the fastest configuration of every task in logs."""
    from tvm_bridge import best_records

    best = best_records(arguments.logs)
    if not best:
        raise ValueError(f"{', '.join(arguments.logs)}: no record of a measurement that worked.")
    for key, record in best.items():
        if arguments.json:
            print(record.to_json())
        else:
            print(f"{key.operator} {key.args} on {key.target}")
            config = json.dumps(record.config) if record.config else "TVM's default schedule"
            print(f"  {record.measurement.cost * 1e6:.1f} us, configuration {record.index}: {config}")
    return 0
