"""How good each search method's kernels are after 128 measurements on this machine's CPU, and how long each takes.

    python -m experiments.llvm_comparison tune judge --cores 2
    python -m experiments.method_comparison report

`tune`: every method tunes layers of ResNet-18 and MobileNet-v1. Those that learn from a history tune once more with one: what
random search measured of the other layers with the same seed.

`judge`: what each tuning held best after each budget is measured again, all of a layer in turns. Writes
`out/method_comparison/llvm.jsonl`, the tunings with so many cores, which the report reads. Stop by Ctrl-C: a tuning whose
parent is killed goes on, and disturbs what is measured next.

Both append to logs in `out/method_comparison/llvm/<cores>-cores` and go on where they were stopped, within a tuning too.
`device_comparison.py` has what they do.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments import log
from experiments.command import Complain, complaining
from experiments.comparison_report import BUDGETS
from experiments.device_comparison import HISTORIES, Setting, tuned, tunings
from experiments.device_judgement import Judgements, Judging
from experiments.kernel_cases import target
from experiments.method_comparison import ABLATIONS, OUT, UNTAUGHT
from search.methods import METHODS
from tvm_bridge.arguments import Parser, positive

TRIALS = 128
ROUNDS = 5

FOLDER = OUT / "llvm"
LAYERS = (
    ("resnet-18", "rb1-conv1"),
    ("resnet-18", "rb3-conv2"),
    ("resnet-18", "rb4-conv2"),
    ("mobilenet-v1", "sp-7-conv2"),
    ("mobilenet-v1", "sp-7-dp1"),
    ("mobilenet-v1", "sp-3-dp1"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not in the logs yet; returns the exit code: 1 if something does not work."""
    parser = Parser(prog="llvm_comparison", description="Search methods on this machine's CPU.")
    parser.add_argument("stages", nargs="+", choices=("tune", "judge"), metavar="STAGE", help="tune, judge")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=(*METHODS, *ABLATIONS, *UNTAUGHT),
        default=list(METHODS),
        metavar="METHOD",
        help='all, or those named; ablations too: "gausstune, random start"',
    )
    parser.add_argument("--histories", nargs="+", choices=HISTORIES, default=list(HISTORIES), metavar="HISTORY")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--cores", type=positive, required=True, help="of how many cores the kernels make use")
    arguments = parser.parse_args(argv)

    def work(complain: Complain) -> None:
        compared = setting(arguments.cores)
        if "tune" in arguments.stages:
            wanted = tunings(compared, dict.fromkeys(arguments.methods, arguments.histories), arguments.seeds)
            chosen = [each for each in wanted if each.history in arguments.histories]
            log.extend(compared.tunings, lambda known: tuned(chosen, known, complain=complain))
        if "judge" in arguments.stages:
            lines = log.read(compared.tunings)
            judging = Judging(compared, ROUNDS)
            log.extend(compared.judgements, lambda known: judging.judged(lines, known, complain=complain))
            path = OUT / "llvm.jsonl"
            path.unlink(missing_ok=True)  # it follows from the logs
            log.append(path, *Judgements(log.read(compared.judgements)).worth(compared.finished(lines)))

    return complaining("llvm_comparison", work, f"{FOLDER} keeps what was found, the same command goes on")


def setting(cores: int) -> Setting:
    """The layers on so many of this machine's cores; times of 30 ms each."""
    budgets = tuple(budget for budget in BUDGETS if budget <= TRIALS)
    return Setting("llvm", FOLDER / f"{cores}-cores", target(cores), LAYERS, budgets, min_repeat_ms=30)


if __name__ == "__main__":
    sys.exit(main())
