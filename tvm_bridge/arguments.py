"""Command-line arguments that several commands share, and the one-line errors of all of them."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn, TypeAlias

from tvm_bridge.convolution import CHOSEN, LAYOUTS
from tvm_bridge.measure.compiling import Compiling
from tvm_bridge.measure.local import Local
from tvm_bridge.measure.rpc import RPC

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a command adds itself to."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def __init__(self, **options: object) -> None:
        super().__init__(formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line and leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def extents(text: str) -> tuple[int, ...]:
    """Read "1,64,56,56"; for argparse."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 1,64,56,56") from None


def number_or_pair(text: str) -> int | tuple[int, ...]:
    """Read "1" or "1,2"; for argparse."""
    numbers = extents(text)
    return numbers[0] if len(numbers) == 1 else numbers


def options(text: str) -> tuple[str, tuple[Any, ...]]:
    """Read the options of a knob, "tile_n=2,4,8" or "tile_rc=16x4,8x8"; for argparse."""
    knob, _, values = text.partition("=")
    try:
        return knob, tuple(tuple(map(int, value.split("x"))) if "x" in value else int(value) for value in values.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a knob and its options such as tile_n=2,4,8") from None


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read the shape of an input, "data=1,3,224,224"; for argparse."""
    name, _, numbers = text.rpartition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not an input and its shape such as data=1,3,224,224")
    return name, extents(numbers)


def positive(text: str) -> int:
    """Read a whole number above 0; for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def natural(text: str) -> int:
    """Read a whole number, 0 or above; for argparse."""
    return 0 if text == "0" else positive(text)


def seconds(text: str) -> float:
    """Read a number of seconds above 0; for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def pretrained(text: str) -> bool | str:
    """Read "shipped", "none", or the path of a model or of a folder of them; for argparse."""
    return {"shipped": True, "none": False}.get(text, text)


def address(text: str) -> tuple[str, int]:
    """Read "host:port"; for argparse."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as 127.0.0.1:9190")
    return host, int(port)


def add_network(parser: argparse.ArgumentParser, *, measured: bool = False) -> None:
    """Add what names a network, its layout and its target; the layout may be `CHOSEN` where something was `measured`."""
    parser.add_argument("model", metavar="NETWORK", help="a name such as resnet-18, or a file: ONNX, StableHLO, TVM's JSON")
    parser.add_argument("--target", default="llvm", help="llvm (this CPU), cuda, or a TVM target as JSON")
    parser.add_argument(
        "--shape",
        type=shape,
        nargs="+",
        default=[],
        metavar="INPUT=EXTENTS",
        help="of inputs whose shape the network leaves open",
    )
    parser.add_argument(
        "--layout",
        choices=[*LAYOUTS, *([CHOSEN] if measured else [])],
        help="of convolutions; as the network has them if not given"
        + ("; chosen: the fastest of both, transpositions counted, by --log of tunings in both" if measured else ""),
    )


def network(arguments: argparse.Namespace) -> Any:
    """The network that `add_network`'s arguments name, in their layout unless that is `CHOSEN`."""
    from tvm_bridge.network.layouts import in_layout
    from tvm_bridge.network.load import load_network

    loaded = load_network(arguments.model, shapes=dict(arguments.shape))
    return in_layout(loaded, arguments.layout) if arguments.layout in LAYOUTS else loaded


def add_searching(parser: argparse.ArgumentParser, *, trials: int) -> None:
    """Add the arguments of `tune` that say how to search."""
    group = parser.add_argument_group("searching")
    group.add_argument("--method", default="gausstune", help="how to search; see `gausstune methods`")
    group.add_argument("--trials", type=positive, default=trials, help="how many configurations to measure")
    group.add_argument("--seed", type=int, default=0, help="of everything random")
    group.add_argument("--early-stopping", type=positive, metavar="N", help="stop after N measurements without a new best")
    group.add_argument("--time-limit", type=seconds, metavar="SECONDS", help="stop after so many seconds")
    group.add_argument("--history", nargs="+", metavar="LOG", help="logs of other tasks, for methods that learn from them")
    group.add_argument(
        "--pretrained",
        type=pretrained,
        default="shipped",
        metavar="MODEL",
        help="a fitted model to begin with, or a folder of them; shipped: the fitting one of the package's, unless there is a "
        "history; none: without, as in a replay unless told otherwise",
    )


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say where and how to measure."""
    group = parser.add_argument_group("measuring")
    group.add_argument("--rpc", type=address, metavar="HOST:PORT", help="measure on devices of this RPC tracker")
    group.add_argument("--key", help="the name the devices are registered under at the tracker")
    group.add_argument("--number", type=positive, default=1, help="least runs averaged into one time")
    group.add_argument("--repeat", type=positive, default=3, help="times taken")
    group.add_argument("--min-repeat-ms", type=natural, default=100, help="least milliseconds a time is averaged over")
    group.add_argument("--build-limit", type=seconds, default=10.0, metavar="SECONDS", help="longest build")
    group.add_argument("--run-limit", type=seconds, default=10.0, metavar="SECONDS", help="longest run")
    group.add_argument(
        "--builders", type=positive, help="compiler processes; as many as there are cores, up to 16, if not given"
    )
    group.add_argument("--cache-flush", action="store_true", help="empty the CPU's caches before each time, a single run")
    group.add_argument("--no-check", action="store_true", help="do not compare results with the reference")


def measurer(arguments: argparse.Namespace) -> Compiling:
    """The measurer that `add_measuring`'s arguments describe.

    **Raises:** `ValueError` if `--rpc` comes without `--key`.
    """
    options = {
        "number": arguments.number,
        "repeat": arguments.repeat,
        "min_repeat_ms": arguments.min_repeat_ms,
        "build_limit": arguments.build_limit,
        "run_limit": arguments.run_limit,
        "builders": arguments.builders,
        "cache_flush": arguments.cache_flush,
        "check": not arguments.no_check,
    }
    if arguments.rpc is None:
        if arguments.key is not None:
            raise ValueError("--key: needs --rpc, the address of the tracker that knows the devices.")
        return Local(**options)
    if arguments.key is None:
        raise ValueError("--key: needed with --rpc, the name the devices are registered under.")
    host, port = arguments.rpc
    return RPC(host, port, arguments.key, **options)


def fail(program: str, error: Exception) -> int:
    """Print an error as one line and return the exit code for wrong input."""
    print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
