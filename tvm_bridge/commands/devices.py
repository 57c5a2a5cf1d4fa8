"""`gausstune devices`: what can be measured on."""

from __future__ import annotations

import argparse

from tvm_bridge import arguments as common
from tvm_bridge.arguments import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("devices", help="list what can be measured on", description=run.__doc__)
    parser.add_argument("--rpc", type=common.address, metavar="HOST:PORT", help="list the devices of this RPC tracker too")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """List this machine's CPU and GPU, and the devices of an RPC tracker."""
    from tvm_bridge.devices import local_devices, tracker_devices

    for kind, name in local_devices():
        print(f"{kind:6} {name}")
    if arguments.rpc is not None:
        for key, number in tracker_devices(*arguments.rpc).items():
            print(f"rpc    {key}: {number} registered")
    return 0
