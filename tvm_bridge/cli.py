"""The command `gausstune`: tune an operator or a network, read logs, replay records, list devices."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from tvm_bridge.arguments import Parser, fail
from tvm_bridge.commands import benchmark, best, compile, devices, methods, network, replay, report, tune
from tvm_bridge.measure.base import DeviceError, TuningError

COMMANDS = (tune, network, compile, benchmark, best, replay, report, devices, methods)

EXAMPLES = """examples:
  gausstune tune --network resnet-18 --layer rb1-conv1 --trials 64 --log rb1.jsonl
  gausstune tune conv2d --data 1,64,56,56 --weight 64,64,3,3 --padding 1 --target llvm
  gausstune network resnet-18 --target llvm --trials 600 --log resnet
  gausstune compile resnet-18 --log resnet -o resnet-18.so
  gausstune benchmark resnet-18 --log resnet
  gausstune best rb1.jsonl
  gausstune report rb1.jsonl -o rb1.html
  gausstune replay records/resnet-18.jsonl.gz --method random --trials 128
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 1 if nothing works, 2 for wrong input or no device, 130 after Ctrl-C."""
    warnings.showwarning = lambda message, *_, **__: print(f"gausstune: warning: {message}", file=sys.stderr)
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except TuningError as error:
        fail("gausstune", error)
        return 1
    except (ValueError, DeviceError, OSError, LookupError, ImportError, ArithmeticError, RuntimeError) as error:
        return fail("gausstune", error)
    except KeyboardInterrupt:
        kept = f"; {arguments.log} keeps what was measured, the same command goes on" if getattr(arguments, "log", None) else ""
        print(f"gausstune: stopped{kept}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="gausstune", description="Find fast kernels for deep networks with few measurements.", epilog=EXAMPLES)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
