"""How good each search method's kernels are after 128 measurements on this machine's CPU, and how long each takes.

    python -m experiments.llvm_comparison --cores 2
    python -m experiments.method_comparison report

Every method tunes layers of ResNet-18 and MobileNet-v1, each time in a process of its own, so that what it compiles for itself
counts as its own seconds. Those that learn from a history tune once more with one: what random search measured of the other
layers with the same seed. In the end the best kernel is measured again, for longer: of many noisy times the best is too good.
Appends to `out/method_comparison/llvm.jsonl` and goes on where it was stopped, within a tuning too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from experiments import log
from experiments.comparison_report import BUDGETS
from experiments.method_comparison import OUT, applies
from search.methods import METHODS
from tvm_bridge import Local, TuneResult, networks, tune
from tvm_bridge.arguments import Parser, positive
from tvm_bridge.target import Target
from tvm_bridge.task import Task, task_of

TRIALS = 128
LAYERS = (
    ("resnet-18", "rb1-conv1"),
    ("resnet-18", "rb3-conv2"),
    ("resnet-18", "rb4-conv2"),
    ("mobilenet-v1", "sp-7-conv2"),
    ("mobilenet-v1", "sp-7-dp1"),
    ("mobilenet-v1", "sp-3-dp1"),
)


@dataclass(frozen=True)
class Tuning:
    """One call of `tune`, as another process is told of it."""

    network: str
    layer: str
    method: str
    history: str
    seed: int
    cores: int

    @property
    def task(self) -> Task:
        """The layer, for so many of this machine's cores."""
        target = Target.parse({"kind": "llvm", "num-cores": self.cores}).resolve()
        return task_of(networks.layer(self.network, self.layer).workload, target, label=f"{self.network} {self.layer}")

    @property
    def path(self) -> Path:
        """The log of its measurements."""
        return OUT / "llvm" / f"{self.network}-{self.layer}-{self.method}-{self.history}-{self.seed}.jsonl"

    @property
    def taught(self) -> list[Path]:
        """The logs of its history: those of random search on the other layers that there are."""
        others = [Tuning(*each, "random", "none", self.seed, self.cores).path for each in LAYERS]
        own = Tuning(self.network, self.layer, "random", "none", self.seed, self.cores).path
        return [path for path in others if path != own and path.exists()] if self.history != "none" else []

    def line(self) -> dict:
        """Tune, and say what came of it."""
        task = self.task
        with Local(repeat=3, min_repeat_ms=30) as measurer:
            device = measurer.device(task)
            result = tune(
                task,
                method=METHODS[self.method],
                trials=TRIALS,
                log=self.path,
                seed=self.seed,
                history=self.taught or None,
                measurer=measurer,
                progress=False,
            )
        with Local(repeat=9) as careful:
            ((_, again),) = careful.stream(task, [result.best.config])
        return {
            **{"tasks": "llvm", "device": device, "task": task.label, "history": self.history},
            **{"method": self.method, "seed": self.seed, "best": best_so_far(task, result)},
            "judged": task.gflops(again.cost) if again.ok else 0.0,
            "seconds": round(result.seconds_searching, 2),
            "measuring": round(result.seconds_measuring, 2),
        }


def main() -> int:
    """Run what is not in the log yet."""
    parser = Parser(prog="llvm_comparison", description="Search methods on this machine's CPU.")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--cores", type=positive, required=True, help="of how many cores the kernels make use")
    arguments = parser.parse_args()
    wanted = [each for each in tunings(arguments.seeds, arguments.cores) if each.method in arguments.methods]
    log.extend(OUT / "llvm.jsonl", lambda known: _lines(wanted, {_key(line) for line in known}))
    return 0


def tunings(seeds: int, cores: int) -> Iterator[Tuning]:
    """Every tuning, random search first: it is the others' history. A seed is done before the next one is begun."""
    for seed in range(seeds):
        for network, layer in LAYERS:
            yield Tuning(network, layer, "random", "none", seed, cores)
        for network, layer in LAYERS:
            for history in ("none", "same"):
                for method in METHODS:
                    if method != "random" and applies(method, history):
                        yield Tuning(network, layer, method, history, seed, cores)


def best_so_far(task: Task, result: TuneResult) -> list[float]:
    """The best GFLOPS after each budget up to `TRIALS`, the default schedule left out."""
    measured = [record.measurement for record in result.records if record.config is not None]
    best = np.maximum.accumulate([task.gflops(each.cost) if each.ok else 0.0 for each in measured])
    return [round(float(best[min(budget, len(best)) - 1]), 2) for budget in BUDGETS if budget <= TRIALS]


def _key(line: dict) -> tuple:
    return line["task"], line["method"], line["history"], line["seed"]


def _lines(wanted: Iterable[Tuning], done: set[tuple]) -> Iterator[dict]:
    for tuning in wanted:
        if (f"{tuning.network} {tuning.layer}", tuning.method, tuning.history, tuning.seed) not in done:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                line = alone.submit(tuning.line).result()
            print(line, file=sys.stderr, flush=True)
            yield line


if __name__ == "__main__":
    sys.exit(main())
