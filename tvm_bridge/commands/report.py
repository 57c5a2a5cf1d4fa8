"""`gausstune report`: a page that shows what tuning found."""

from __future__ import annotations

import argparse
from pathlib import Path

from tvm_bridge.arguments import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("report", help="write a page that shows what tuning found", description=run.__doc__)
    parser.add_argument("log", metavar="LOG", type=Path, help="a log, .jsonl or .jsonl.gz, or the folder of a tuned network")
    parser.add_argument("-o", "--output", type=Path, metavar="HTML", help="the page; beside the log if not given")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Write one HTML page, for any browser, of what tuning gained, found and cost."""
    from tvm_bridge.report import write_report

    print(write_report(arguments.log, arguments.output))
    return 0
