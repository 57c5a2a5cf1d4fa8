"""`gausstune tune`: tune an operator, or layers of a network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_bridge import arguments as common
from tvm_bridge.arguments import Commands
from tvm_bridge.commands.printing import print_result
from tvm_bridge.measure.base import TuningError

if TYPE_CHECKING:
    from tvm_bridge.task import Task


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("tune", help="tune an operator, or layers of a network", description=run.__doc__)
    parser.add_argument("operator", nargs="?", choices=["conv2d", "dense"], help="the operator; not with --network")
    shape = parser.add_argument_group("the operator's shape")
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
    parser.add_argument(
        "--enlarged",
        action="store_true",
        help="choose among all that the template can do, not AutoTVM's knobs alone (on CPUs: Winograd's algorithm too)",
    )
    parser.add_argument(
        "--candidates",
        type=common.options,
        action="append",
        metavar="KNOB=A,B,...",
        help="all the options that a knob shall have, factors as 16x4; repeat for more knobs",
    )
    shape.add_argument("--network", help="tune a layer of this network instead")
    shape.add_argument("--layer", help="the layer's name; all layers if not given")
    parser.add_argument("--target", default="llvm", help="llvm (this CPU), cuda, or a TVM target as JSON")
    parser.add_argument("--log", type=Path, help="append every measurement to this file, and go on from what it holds")
    common.add_searching(parser, trials=64)
    common.add_measuring(parser)
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Tune an operator of a given shape, or a network's layers, and print what was found."""
    from tvm_bridge import tune

    tasks = _tasks(arguments)
    code = 0
    with common.measurer(arguments) as device:
        for number, task in enumerate(tasks, start=1):
            try:
                result = tune(
                    task,
                    method=arguments.method,
                    trials=arguments.trials,
                    log=arguments.log,
                    history=arguments.history,
                    pretrained=arguments.pretrained,
                    seed=arguments.seed,
                    early_stopping=arguments.early_stopping,
                    time_limit=arguments.time_limit,
                    measurer=device,
                    progress=(number, len(tasks)),
                )
            except TuningError as error:  # the other layers may work
                common.fail("gausstune", error)
                code = 1
            else:
                print_result(task, result)
    return code


def _tasks(arguments: argparse.Namespace) -> list[Task]:
    from tvm_bridge import conv2d, dense, networks
    from tvm_bridge.target import Target
    from tvm_bridge.task import task_of

    names = ("data", "weight", "stride", "padding", "dilation", "groups", "layout")
    shape = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    space = {"enlarged": arguments.enlarged, "candidates": dict(arguments.candidates or ())}
    if arguments.network is not None:
        if arguments.operator is not None:
            raise ValueError("give either an operator with its shape or --network, not both.")
        if shape:
            raise ValueError(f"--{next(iter(shape))}: the layers of --network have their own shapes; leave it out.")
        chosen = [networks.layer(arguments.network, arguments.layer)] if arguments.layer else networks.layers(arguments.network)
        target = Target.parse(arguments.target).resolve()
        return [task_of(each.workload, target, label=f"{arguments.network} {each.name}", **space) for each in chosen]
    if arguments.layer is not None:
        raise ValueError(f"--layer: {arguments.layer!r} needs --network, one of {', '.join(networks.NETWORKS)}.")
    if arguments.operator is None or arguments.data is None or arguments.weight is None:
        raise ValueError(
            "write `tune conv2d --data N,C,H,W --weight F,C,KH,KW`, `tune dense --data N,K --weight M,K` or "
            "`tune --network NAME --layer NAME`."
        )
    if arguments.operator == "conv2d":
        return [conv2d(**shape, target=arguments.target, **space)]
    if arguments.enlarged:
        raise ValueError("--enlarged: a dense has no more to choose; leave it out.")
    if foreign := [name for name in shape if name not in ("data", "weight")]:
        raise ValueError(f"--{foreign[0]}: a dense has only --data and --weight; leave it out.")
    return [dense(**shape, target=arguments.target, candidates=space["candidates"])]
