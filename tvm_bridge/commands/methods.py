"""`gausstune methods`: the search methods."""

from __future__ import annotations

import argparse

from tvm_bridge.arguments import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("methods", help="list the search methods", description=run.__doc__)
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """List the search methods."""
    from search.methods import METHODS

    for name, method in METHODS.items():
        print(f"{name:12} {(method.__doc__ or '').strip().splitlines()[0]}")
    return 0
