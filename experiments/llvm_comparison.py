"""How good each search method's kernels are after 128 measurements on this machine's CPU, and how long each takes.

    python -m experiments.llvm_comparison --cores 2
    python -m experiments.method_comparison report

Every method tunes layers of ResNet-18 and MobileNet-v1, each time in a process of its own. Programs of JAX that an earlier one
has compiled are in the user's cache, as for any user: whoever comes first takes seconds more. Those that learn from a history
tune once more with one: what random search measured of the other layers with the same seed. In the end the best kernel is
measured again, for longer: of many noisy times the best is too good. Appends to `out/method_comparison/llvm.jsonl` and goes on
where it was stopped, within a tuning too.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from experiments import log
from experiments.command import ended
from experiments.comparison_report import BUDGETS
from experiments.kernel_cases import target
from experiments.method_comparison import OUT, applies, suited
from search.methods import METHODS
from tvm_bridge import Local, TuneResult, networks, tune
from tvm_bridge.arguments import Parser, positive
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
        return task_of(
            networks.layer(self.network, self.layer).workload, target(self.cores), label=f"{self.network} {self.layer}"
        )

    @property
    def path(self) -> Path:
        """The log of its measurements."""
        return (
            OUT / "llvm" / f"{self.cores}-cores" / f"{self.network}-{self.layer}-{self.method}-{self.history}-{self.seed}.jsonl"
        )

    @property
    def taught(self) -> list[Path]:
        """The logs of its history: those of random search on the other layers.

        **Raises:** `FileNotFoundError` if one of them was not tuned yet.
        """
        if self.history == "none":
            return []
        others = (each for each in LAYERS if each != (self.network, self.layer))
        paths = [Tuning(*each, "random", "none", self.seed, self.cores).path for each in others]
        if absent := [path for path in paths if not path.exists()]:
            raise FileNotFoundError(f"history: {absent[0]} is not there yet; run `--methods random` first.")
        return paths

    def line(self) -> dict:
        """Tune, and say what came of it."""
        task = self.task
        with Local(repeat=3, min_repeat_ms=30) as measurer:
            device = measurer.device(task)
            result = tune(
                task,
                method=functools.partial(METHODS[self.method], **suited(self.method, TRIALS)),
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
            **{"tasks": "llvm", "device": device, "cores": self.cores, "task": task.label, "history": self.history},
            **{"method": self.method, "seed": self.seed, "best": best_so_far(task, result)},
            "judged": task.gflops(again.cost) if again.ok else 0.0,
            "seconds": round(result.seconds_searching, 2),
            "measuring": round(result.seconds_measuring, 2),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not in the log yet; returns the exit code."""
    parser = Parser(prog="llvm_comparison", description="Search methods on this machine's CPU.")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--cores", type=positive, required=True, help="of how many cores the kernels make use")
    arguments = parser.parse_args(argv)

    def work() -> int:
        wanted = [each for each in tunings(arguments.seeds, arguments.cores) if each.method in arguments.methods]
        log.extend(OUT / "llvm.jsonl", lambda known: _lines(wanted, {_key(line) for line in known}))
        return 0

    return ended("llvm_comparison", work, f"{OUT} keeps what was found, the same command goes on")


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
    return line["task"], line["method"], line["history"], line["seed"], line["cores"]


def _lines(wanted: Iterable[Tuning], done: set[tuple]) -> Iterator[dict]:
    for tuning in wanted:
        if (f"{tuning.network} {tuning.layer}", tuning.method, tuning.history, tuning.seed, tuning.cores) not in done:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                line = alone.submit(tuning.line).result()
            print(line, file=sys.stderr, flush=True)
            yield line


if __name__ == "__main__":
    sys.exit(main())
