"""Record measurements for later learning: random valid configurations and the default of every layer of networks.

    python -m experiments.record --networks resnet-18 mobilenet-v1 --configurations 64 --target llvm --out out/records
    python -m experiments.record --target cuda --configurations 300 resnet-18=1000 --layout NCHW NHWC --minutes 12

writes `out/records/<network>.jsonl.gz`, one compressed log a network; logs of layers in NHWC and of enlarged spaces are named
`<network>-nhwc`, `<network>-enlarged`. A layer that several networks have is recorded once, for the first of all networks.
Every kernel's result is compared with the reference.

Layers take turns of 50 configurations, so that a recording that was cut short has some of each; the next layout begins when
the one before is complete. After each turn the layer's first configuration that worked is measured again, into
`out/records/noise/`: how far times of one kernel lie apart. `out/records/device.jsonl` keeps what the driver of a GPU says of
it at the start, after each turn and in the end; nothing is set. `--refused` has some of what the templates refuse built and
run all the same, into `out/records/refused/`. Started again, the same command measures only what is missing.
"""

from __future__ import annotations

import math
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from experiments.kernel_cases import CHANNELS_LAST
from experiments.layer_recording import LayerRecording, Logs, note_state
from tvm_bridge import networks
from tvm_bridge.arguments import Parser, add_measuring, fail, measurer, natural, positive
from tvm_bridge.convolution import LAYOUTS, Conv2d
from tvm_bridge.measure.base import DeviceError, TuningError
from tvm_bridge.networks import Layer
from tvm_bridge.target import Target
from tvm_bridge.task import task_of
from tvm_bridge.tune import check_limits

ENLARGED = "-enlarged"
"""What a log's name ends with if its configurations are of enlarged spaces."""

OTHERS = ""
"""In place of a network: all for which no number of configurations of their own is given."""

SOME = 64
"""Configurations of each layer unless told otherwise."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recorder; returns the exit code: 0, 1 if a layer could not be recorded, 2 for wrong input, 130 after Ctrl-C."""
    parser = Parser(prog="record.py", description="Measure random valid configurations of networks' layers into logs.")
    parser.add_argument("--networks", nargs="+", default=list(networks.NETWORKS), metavar="NETWORK", help="which networks")
    parser.add_argument("--layers", nargs="+", metavar="LAYER", help="only these layers of each network")
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=["NCHW"], help="of the layers, in this order")
    parser.add_argument(
        "--configurations",
        type=_number,
        nargs="+",
        default=[(OTHERS, SOME)],
        metavar="N",
        help="how many of each layer; also as NETWORK=N",
    )
    parser.add_argument(
        "--enlarged", action="store_true", help="of all that the templates can do, not of AutoTVM's knobs alone"
    )
    parser.add_argument("--target", default="llvm", help="llvm (this CPU), cuda, or a TVM target as JSON")
    parser.add_argument(
        "--refused",
        type=natural,
        default=0,
        metavar="N",
        help="on a GPU: N configurations of each layer that its template refuses, to see whether the device does so too",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random configurations")
    parser.add_argument("--minutes", type=positive, help="stop after so many; the same command goes on")
    parser.add_argument("--out", type=Path, default=Path("out/records"), help="the folder of the logs")
    add_measuring(parser)
    arguments = parser.parse_args(argv)
    deadline = time.perf_counter() + 60 * (arguments.minutes or math.inf)
    try:
        check_limits(trials=1, early_stopping=None, time_limit=None, seed=arguments.seed)
        target = Target.parse(arguments.target).resolve()
        if arguments.refused and target.kind != "cuda":
            raise ValueError("--refused: templates for a CPU refuse what would be slow, not what cannot run; leave it out.")
        layers = chosen(arguments.networks, arguments.layers, dict(arguments.configurations))
        asks = target.kind == "cuda" and arguments.rpc is None
        note = partial(note_state, arguments.out) if asks else lambda moment, layer="": None
        with measurer(arguments) as device, closing(Logs(arguments.out)) as logs:
            note("start")
            code = 0
            for layout in arguments.layout:
                kind = CHANNELS_LAST * (layout == "NHWC") + ENLARGED * arguments.enlarged
                recordings = [
                    LayerRecording(
                        task_of(
                            replace(layer.workload, layout=layout),
                            target,
                            label=f"{network} {layer.name}",
                            enlarged=arguments.enlarged,
                        ),
                        network + kind,
                        wanted=number,
                        logs=logs,
                        measurer=device,
                        seed=arguments.seed,
                        deadline=deadline,
                        noted=partial(note, "again"),
                        refused=arguments.refused,
                    )
                    for network, layer, number in layers
                ]
                code = max(code, in_turns(recordings, deadline))
            note("end")
            return code
    except (ValueError, DeviceError, OSError) as error:
        return fail("record.py", error)
    except KeyboardInterrupt:
        print(f"record.py: stopped; {arguments.out} keeps what was measured, the same command goes on", file=sys.stderr)
        return 130


def in_turns(recordings: Iterable[LayerRecording], deadline: float) -> int:
    """Give every layer its turns until all are complete or time is over; returns the exit code, 1 if a layer does not work."""
    code, left = 0, list(recordings)
    while left and time.perf_counter() < deadline:
        for recording in left:
            if time.perf_counter() < deadline:
                print(recording.turn(), flush=True)
                if recording.complete:
                    try:
                        recording.result()
                    except TuningError as error:  # the other layers are still worth recording
                        fail("record.py", error)
                        code = 1
        left = [recording for recording in left if not recording.complete]
    if left:
        print(f"time is over, {len(left)} layers are not complete; the same command goes on", flush=True)
    return code


def chosen(names: Sequence[str], only: Sequence[str] | None, numbers: Mapping[str, int]) -> list[tuple[str, Layer, int]]:
    """The distinct layers of networks, each under the first of all networks that has it, and how many configurations of each.

    Of a layer that several of the networks have it is the most that one of them asks for.

    **Raises:** `ValueError` for a network that there is not or that is not asked for, or if none of the layers is in them.
    """
    if stray := [name for name in numbers if name not in (OTHERS, *names)]:
        raise ValueError(f"--configurations: {', '.join(stray)} is not among the networks {', '.join(names)}.")
    most: dict[Conv2d, int] = {}
    for network in names:
        for layer in networks.layers(network):
            if only is None or layer.name in only:
                most[layer.workload] = max(numbers.get(network, numbers.get(OTHERS, SOME)), most.get(layer.workload, 0))
    if not most:
        raise ValueError(f"--layers: none of {', '.join(only or ())} is in {', '.join(names)}.")
    first: dict[Conv2d, tuple[str, Layer]] = {}
    for network, layers in networks.NETWORKS.items():
        for layer in layers:
            first.setdefault(layer.workload, (network, layer))
    return [(*first[workload], number) for workload, number in most.items()]


def _number(text: str) -> tuple[str, int]:
    """Read "64", or "resnet-18=1000" for one network; for argparse."""
    network, _, number = text.rpartition("=")
    if text.startswith("="):
        raise ArgumentTypeError(f"{text!r} is not a number of configurations such as 64 or resnet-18=1000")
    return network, positive(number)


if __name__ == "__main__":
    sys.exit(main())
