"""The command `gausstune`: tune an operator or a network's layer, read logs, replay records, list devices."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_bridge.session import Candidate, TuneResult
    from tvm_bridge.task import Task

EXAMPLES = """examples:
  gausstune tune --network resnet-18 --layer rb1-conv1 --trials 64 --log rb1.jsonl
  gausstune tune conv2d --data 1,64,56,56 --weight 64,64,3,3 --padding 1 --target llvm
  gausstune best rb1.jsonl
  gausstune replay records/resnet-18.jsonl.gz --method random --trials 128
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, 1 if nothing works, 2 for wrong input, 130 after Ctrl-C."""
    warnings.showwarning = lambda message, *_, **__: print(f"gausstune: warning: {message}", file=sys.stderr)
    # Parsing needs the methods' and networks' names but no device, so errors in the arguments come first.
    from tvm_bridge.arguments import fail
    from tvm_bridge.measure.base import DeviceError, TuningError

    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except TuningError as error:
        fail("gausstune", error)
        return 1
    except (ValueError, DeviceError, OSError, LookupError) as error:
        return fail("gausstune", error)
    except KeyboardInterrupt:
        kept = f"; {arguments.log} keeps what was measured, the same command goes on" if getattr(arguments, "log", None) else ""
        print(f"gausstune: stopped{kept}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    from tvm_bridge import arguments as common

    parser = common.Parser(
        prog="gausstune", description="Find fast kernels for deep networks with few measurements.", epilog=EXAMPLES
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    tune = commands.add_parser("tune", help="tune an operator, or layers of a network", description=_tune.__doc__)
    tune.add_argument("operator", nargs="?", choices=["conv2d", "dense"], help="the operator; not with --network")
    shape = tune.add_argument_group("the operator's shape")
    shape.add_argument("--data", type=common.extents, metavar="N,C,H,W", help="shape of the input; N,K of a dense")
    shape.add_argument("--weight", type=common.extents, metavar="F,C,KH,KW", help="shape of the weight; M,K of a dense")
    shape.add_argument("--stride", type=common.number_or_pair, help="a number, or vertical,horizontal; 1 if not given")
    shape.add_argument("--padding", type=common.number_or_pair, help="a number, two, or top,left,bottom,right; 0 if not given")
    shape.add_argument("--dilation", type=common.number_or_pair, help="a number, or vertical,horizontal; 1 if not given")
    shape.add_argument(
        "--groups", type=common.positive, help="1, or the input channels for a depthwise convolution; 1 if not given"
    )
    shape.add_argument(
        "--layout", choices=["NCHW", "NHWC"], help="with NHWC, --data N,H,W,C --weight KH,KW,C,F; NCHW if not given"
    )
    tune.add_argument(
        "--enlarged",
        action="store_true",
        help="choose among all that the template can do, not AutoTVM's knobs alone (on CPUs: Winograd's algorithm too)",
    )
    shape.add_argument("--network", help="tune a layer of this network instead")
    shape.add_argument("--layer", help="the layer's name; all layers if not given")
    tune.add_argument("--target", default="llvm", help="llvm (this CPU), cuda, or a TVM target as JSON")
    tune.add_argument("--log", type=Path, help="append every measurement to this file, and go on from what it holds")
    common.add_searching(tune, trials=64)
    common.add_measuring(tune)
    tune.set_defaults(command=_tune)

    best = commands.add_parser("best", help="print the fastest configuration of every task in logs", description=_best.__doc__)
    best.add_argument("logs", nargs="+", metavar="LOG", help="AutoTVM logs, .jsonl or .jsonl.gz")
    best.add_argument("--json", action="store_true", help="print the records' own lines")
    best.set_defaults(command=_best)

    replay = commands.add_parser("replay", help="run a method on recorded measurements", description=_replay.__doc__)
    replay.add_argument("records", nargs="+", metavar="RECORDS", help="logs (.jsonl, .jsonl.gz) and tables (.json, .json.gz)")
    replay.add_argument("--missing", choices=["error", "fail"], default="error", help="what an unrecorded configuration means")
    common.add_searching(replay, trials=128)
    replay.set_defaults(command=_replay)

    devices = commands.add_parser("devices", help="list what can be measured on", description=_devices.__doc__)
    devices.add_argument("--rpc", type=common.address, metavar="HOST:PORT", help="list the devices of this RPC tracker too")
    devices.set_defaults(command=_devices)

    methods = commands.add_parser("methods", help="list the search methods", description=_methods.__doc__)
    methods.set_defaults(command=_methods)
    return parser


def _tune(arguments: argparse.Namespace) -> int:
    """Tune an operator of a given shape, or a network's layers, and print what was found."""
    from tvm_bridge import tune
    from tvm_bridge.arguments import fail, measurer
    from tvm_bridge.measure.base import TuningError

    tasks = _tasks(arguments)
    code = 0
    with measurer(arguments) as device:
        for number, task in enumerate(tasks, start=1):
            try:
                result = tune(
                    task,
                    method=arguments.method,
                    trials=arguments.trials,
                    log=arguments.log,
                    history=arguments.history,
                    seed=arguments.seed,
                    early_stopping=arguments.early_stopping,
                    time_limit=arguments.time_limit,
                    measurer=device,
                    progress=(number, len(tasks)),
                )
            except TuningError as error:  # the other layers may work
                fail("gausstune", error)
                code = 1
            else:
                _print_result(task, result)
    return code


def _tasks(arguments: argparse.Namespace) -> list[Task]:
    from tvm_bridge import conv2d, dense, networks
    from tvm_bridge.target import Target
    from tvm_bridge.task import task_of

    names = ("data", "weight", "stride", "padding", "dilation", "groups", "layout")

    shape = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.network is not None:
        if arguments.operator is not None:
            raise ValueError("give either an operator with its shape or --network, not both.")
        if shape:
            raise ValueError(f"--{next(iter(shape))}: the layers of --network have their own shapes; leave it out.")
        chosen = [networks.layer(arguments.network, arguments.layer)] if arguments.layer else networks.layers(arguments.network)
        target = Target.parse(arguments.target).resolve()
        enlarged = arguments.enlarged
        return [task_of(each.workload, target, label=f"{arguments.network} {each.name}", enlarged=enlarged) for each in chosen]
    if arguments.layer is not None:
        raise ValueError(f"--layer: {arguments.layer!r} needs --network, one of {', '.join(networks.NETWORKS)}.")
    if arguments.operator is None or arguments.data is None or arguments.weight is None:
        raise ValueError(
            "write `tune conv2d --data N,C,H,W --weight F,C,KH,KW`, `tune dense --data N,K --weight M,K` or "
            "`tune --network NAME --layer NAME`."
        )
    if arguments.operator == "conv2d":
        return [conv2d(**shape, target=arguments.target, enlarged=arguments.enlarged)]
    if arguments.enlarged:
        raise ValueError("--enlarged: a dense has no more to choose; leave it out.")
    if foreign := [name for name in shape if name not in ("data", "weight")]:
        raise ValueError(f"--{foreign[0]}: a dense has only --data and --weight; leave it out.")
    return [dense(**shape, target=arguments.target)]


def _print_result(task: Task, result: TuneResult) -> None:
    best, default = result.best, result.default
    print(f"{task.name}: {_speed(task, best)}")
    if default is not None:
        print(f"  TVM's default schedule: {_speed(task, default)}, {default.seconds / best.seconds:.1f} times slower")
    print(
        f"  configuration {best.index}: {json.dumps(best.config)}" if best.config else "  best left as TVM's default schedule"
    )
    measured = len(result.records) - (default is not None)
    errors = ", ".join(f"{count} {error.name}" for error, count in result.errors.items()) or "none failed"
    print(
        f"  {measured} measured ({errors}), {result.seconds_searching:.1f} s searching, {result.seconds_measuring:.1f} s "
        f"measuring, ended by {result.stopped}"
    )


def _speed(task: Task, candidate: Candidate) -> str:
    unit = "GFLOPS" if task.flop is not None else "runs/s"
    return f"{candidate.gflops:.1f} {unit}, {candidate.seconds * 1e6:.1f} us"


def _best(arguments: argparse.Namespace) -> int:
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


def _replay(arguments: argparse.Namespace) -> int:
    """Run a search method on recorded measurements; no hardware is used."""
    from tvm_bridge import replay, tune

    tasks = replay(arguments.records, missing=arguments.missing)
    if not tasks:
        raise ValueError(f"{', '.join(arguments.records)}: no record of a measurement.")
    for number, task in enumerate(tasks, start=1):
        result = tune(
            task,
            method=arguments.method,
            trials=arguments.trials,
            history=arguments.history,
            seed=arguments.seed,
            early_stopping=arguments.early_stopping,
            time_limit=arguments.time_limit,
            progress=(number, len(tasks)),
        )
        _print_result(task, result)
    return 0


def _devices(arguments: argparse.Namespace) -> int:
    """List this machine's CPU and GPU, and the devices of an RPC tracker."""
    from tvm_bridge.devices import local_devices, tracker_devices

    for kind, name in local_devices():
        print(f"{kind:6} {name}")
    if arguments.rpc is not None:
        for key, number in tracker_devices(*arguments.rpc).items():
            print(f"rpc    {key}: {number} registered")
    return 0


def _methods(arguments: argparse.Namespace) -> int:
    """List the search methods."""
    from search.methods import METHODS

    for name, method in METHODS.items():
        print(f"{name:12} {(method.__doc__ or '').strip().splitlines()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
