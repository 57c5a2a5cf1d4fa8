"""Record measurements for later learning: random valid configurations and the default of every layer of networks.

    python experiments/record.py --networks resnet-18 mobilenet-v1 --configurations 64 --target llvm --out out/records

writes `out/records/<network>.jsonl.gz`, one compressed log a network. Started again, it measures only what is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tvm_bridge import networks, tune
from tvm_bridge.arguments import Parser, add_measuring, fail, measurer, positive
from tvm_bridge.measure.base import DeviceError, TuningError
from tvm_bridge.record_log import compress
from tvm_bridge.target import Target
from tvm_bridge.task import task_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recorder; returns the exit code: 0, 1 if a layer could not be recorded, 2 for wrong input, 130 after Ctrl-C."""
    parser = Parser(prog="record.py", description="Measure random valid configurations of networks' layers into logs.")
    parser.add_argument("--networks", nargs="+", default=list(networks.NETWORKS), metavar="NETWORK", help="which networks")
    parser.add_argument("--layers", nargs="+", metavar="LAYER", help="only these layers of each network")
    parser.add_argument("--configurations", type=positive, default=64, help="how many of each layer")
    parser.add_argument("--target", default="llvm", help="llvm (this CPU), cuda, or a TVM target as JSON")
    parser.add_argument("--seed", type=int, default=0, help="of the random configurations")
    parser.add_argument("--out", type=Path, default=Path("out/records"), help="the folder of the logs")
    add_measuring(parser)
    arguments = parser.parse_args(argv)
    code = 0
    try:
        target = Target.parse(arguments.target).resolve()
        layers = [
            (network, layer)
            for network in arguments.networks
            for layer in networks.layers(network)
            if arguments.layers is None or layer.name in arguments.layers
        ]
        if not layers:
            raise ValueError(f"--layers: none of {', '.join(arguments.layers)} is in {', '.join(arguments.networks)}.")
        with measurer(arguments) as device:
            for number, (network, layer) in enumerate(layers, start=1):
                log = arguments.out / f"{network}.jsonl.gz"
                task = task_of(layer.workload, target, label=f"{network} {layer.name}")
                try:
                    result = tune(
                        task,
                        method="random",
                        trials=arguments.configurations,
                        log=log,
                        seed=arguments.seed,
                        measurer=device,
                        progress=(number, len(layers)),
                    )
                    default = f"default {result.default.gflops:.1f}" if result.default else "default failed"
                    print(f"{network} {layer.name}: best {result.best.gflops:.1f} GFLOPS, {default}", flush=True)
                except TuningError as error:  # the other layers are still worth recording
                    fail("record.py", error)
                    code = 1
                if number == len(layers) or layers[number][0] != network:
                    compress(log)
    except (ValueError, DeviceError, OSError) as error:
        return fail("record.py", error)
    except KeyboardInterrupt:
        print(f"record.py: stopped; {arguments.out} keeps what was measured, the same command goes on", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
