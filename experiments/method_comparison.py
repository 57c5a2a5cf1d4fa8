"""How few measurements each search method needs: recorded tables and pools of real GPUs, with and without history.

    python -m experiments.method_comparison run --tasks tables
    python -m experiments.method_comparison run --tasks pools --history same --seeds 5 --methods gausstune autotvm
    python -m experiments.method_comparison report

`tables` are exhaustive: a convolution on three GPUs and a matrix product on two. `pools` are the configurations that tuners
measured of each layer of ResNet-18 and VGG-16 on two GPUs. History is what was recorded of a table's kernel on other devices or
of the other layers on the same device; an adversarial history has its throughputs inverted or permuted, or half of its
sources. `run` appends to `out/method_comparison/*.jsonl` and goes on where it was stopped; `report` writes
`experiments/results/method_comparison.{md,json,png}`. `experiments/recorded.py` says where the records are looked for.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from experiments import comparison_report, log
from experiments.command import ended
from experiments.comparison_report import BUDGETS, HISTORY, whole
from experiments.recorded import Recorded, pools, tables
from search import Source, run
from search.driver import Batch, Search
from search.methods import METHODS, find, learns_from_history
from surrogates import ExactGP, SparseGP
from tvm_bridge.arguments import Parser, positive

OUT = Path("out") / "method_comparison"
TAUGHT = 256
"""Configurations that are known of each source, drawn at random: a history of one tuning each."""

ABLATIONS: dict[str, dict] = {
    "gausstune, batches of 64": {"batch": 64},
    "gausstune, RBF kernel": {"process": ExactGP(kernel="rbf")},
    "gausstune, noise is noise": {"rough": False},
    "gausstune, random candidates only": {"leaders": 0},
    "gausstune, random start": {"diverse": False},
    "gausstune, mean only": {"acquisition": lambda mean, std, best: mean},
}
"""The method with one ingredient changed."""

UNTAUGHT: dict[str, dict] = {
    "gausstune, nothing replayed": {"replayed": 0.0},
    "gausstune, history not trusted": {"trusted": 0.0},
    "gausstune, trust does not fade": {"halving": math.inf},
    "gausstune, sparse GP for favourites": {"surrogate": SparseGP()},
    "gausstune, history as one model": {"apart": False},
}
"""The same, of what makes a difference only where there is a history."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not in the logs yet, or report on them; returns the exit code."""
    parser = Parser(prog="method_comparison", description="Search methods on recorded tables and pools.")
    commands = parser.add_subparsers(dest="command", required=True)
    arguments = commands.add_parser("run", help="run methods on recorded tasks")
    arguments.add_argument("--tasks", choices=("tables", "pools"), required=True)
    arguments.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS), metavar="METHOD")
    arguments.add_argument("--ablations", action="store_true", help="gausstune with one ingredient changed, instead")
    arguments.add_argument("--history", choices=tuple(HISTORY), default="none")
    arguments.add_argument("--seeds", type=positive, default=20)
    arguments.add_argument("--every", type=positive, default=1, help="only every n-th task")
    commands.add_parser("report", help="write tables and figure from all logs")
    parsed = parser.parse_args(argv)

    def work() -> int:
        if parsed.command == "report":
            comparison_report.write(sorted(OUT.glob("*.jsonl")))
        else:
            path = OUT / f"{parsed.tasks}-{parsed.history}{'-ablations' * parsed.ablations}.jsonl"
            log.extend(path, lambda known: _runs(parsed, set(map(_key, known))))
        return 0

    return ended("method_comparison", work, f"{OUT} keeps what was found, the same command goes on")


def _key(line: dict) -> tuple:
    return line["device"], line["task"], line["method"], line["seed"]


def _runs(arguments, done: set[tuple]) -> Iterator[dict]:
    every = tables() if arguments.tasks == "tables" else [*pools("gtx1650"), *pools("rtx3080")]
    named = [*ABLATIONS, *UNTAUGHT] if arguments.ablations else arguments.methods
    methods = [name for name in named if applies(name, arguments.history)]
    for task in every[:: arguments.every]:
        for name in methods:
            for seed in range(arguments.seeds):
                if (task.device, task.name, name, seed) in done:
                    continue
                history = _history(task, every, arguments.history, seed)
                taught = {"history": history} if history else {}
                search = compared(name, max(BUDGETS))(task.source.space, key=jax.random.key(seed), **taught)
                best, seconds = _best_so_far(task, search)
                yield {
                    **{"tasks": arguments.tasks, "device": task.device, "task": task.name, "history": arguments.history},
                    **{"method": name, "seed": seed, "best": best, "seconds": round(seconds, 3)},
                }
        print(f"{task.device} {task.name}: {', '.join(methods)}", file=sys.stderr, flush=True)


def compared(name: str, trials: int) -> Callable[..., Search]:
    """A method by its name, or with the ingredient changed that an ablation's name says.

    Its settings are its defaults but of `dgp-transfer`, which has the ICCV paper's proportion, 3 to 1, of a budget of `trials`.
    """
    settings = {"dgp-transfer": {"tuning_set": trials * 3 // 4, "deployed": trials // 4}, **ABLATIONS, **UNTAUGHT}
    return functools.partial(find(whole(name)), **settings.get(name, {}))


def applies(name: str, history: str) -> bool:
    """Whether a method or ablation can be run: with a history if it learns from one, without if it needs none."""
    if history == "none":
        return name != "dgp-transfer" and name not in UNTAUGHT
    return learns_from_history(METHODS[whole(name)])


def _best_so_far(task: Recorded, search) -> tuple[list[float], float]:
    """The best share of the task's optimum after each of `BUDGETS`, and the seconds that the method thought."""
    seen: list[float] = []

    def measure(batch: Batch) -> Generator[tuple[int, float]]:
        values = task.throughput_of(batch)
        seen.extend(values)
        yield from enumerate(values)

    seconds = run(search, measure, trials=max(BUDGETS)).seconds_searching
    best = np.maximum.accumulate(seen) / task.source.throughput.max()
    return [round(float(best[min(budget, len(best)) - 1]), 4) for budget in BUDGETS], seconds


def _history(task: Recorded, every: Sequence[Recorded], kind: str, seed: int) -> list[Source]:
    """What is known of related tasks: some random configurations of each."""
    if kind == "none":
        return []
    generator = np.random.default_rng(seed)
    taught = []
    for number, other in enumerate(other for other in every if other.related(task)):
        rows = generator.permutation(len(other.source.throughput))[:TAUGHT]
        source = replace(other.source, knobs=other.source.knobs[rows], throughput=other.source.throughput[rows])
        spoiled = kind in ("inverted", "permuted") or (kind == "mixed" and number % 2)
        if spoiled and kind == "permuted":
            source = replace(source, throughput=generator.permutation(source.throughput))
        elif spoiled:
            source = replace(source, throughput=source.throughput.max() + source.throughput.min() - source.throughput)
        taught.append(source)
    return taught


if __name__ == "__main__":
    sys.exit(main())
