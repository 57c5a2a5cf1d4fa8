"""How good each search method's kernels are after 128 measurements on this machine's CPU, and how long each takes.

    python -m experiments.llvm_comparison tune judge --cores 2
    python -m experiments.method_comparison report

`tune`: every method tunes layers of ResNet-18 and MobileNet-v1, each time in a process of its own. Programs of JAX that an
earlier one has compiled are in the user's cache, as for any user: whoever comes first takes seconds more. Those that learn from
a history tune once more with one: what random search measured of the other layers with the same seed.

`judge`: what each tuning held best after each budget is measured again, all of a layer in turns, `ROUNDS` times: of many
configurations that are measured once, the best is in part the luckiest. Writes `out/method_comparison/llvm.jsonl`, the tunings
with so many cores, which the report reads. Stop by Ctrl-C: a tuning whose parent is killed goes on, and disturbs what is
measured next.

Both append to logs in `out/method_comparison/llvm` and go on where they were stopped, within a tuning too. A layer that has
new incumbents is judged anew as a whole: what was measured on another day is not compared.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
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
from experiments.method_comparison import ABLATIONS, OUT, UNTAUGHT, applies, compared
from search.knobs import Config
from search.methods import METHODS
from tvm_bridge import Local, TuneResult, networks, tune
from tvm_bridge.arguments import Parser, positive
from tvm_bridge.task import Task, task_of

TRIALS = 128
ROUNDS = 5
"""How often a judged kernel is measured. The fastest counts: others' work on the machine only ever slows a kernel down."""

FOLDER = OUT / "llvm"
TUNINGS, JUDGEMENTS = FOLDER / "tunings.jsonl", FOLDER / "judgements.jsonl"

HISTORIES = ("none", "same")
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
        method = self.method.replace(", ", "-").replace(" ", "-")
        return FOLDER / f"{self.cores}-cores" / f"{self.network}-{self.layer}-{method}-{self.history}-{self.seed}.jsonl"

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
        with measuring() as measurer:
            device = measurer.device(task)
            result = tune(
                task,
                method=compared(self.method, TRIALS),
                trials=TRIALS,
                log=self.path,
                seed=self.seed,
                history=self.taught or None,
                measurer=measurer,
                progress=False,
            )
        return {
            **{"tasks": "llvm", "device": device, "cores": self.cores, "task": task.label, "history": self.history},
            **{"network": self.network, "layer": self.layer, "method": self.method, "seed": self.seed},
            "incumbents": incumbents(result),
            "seconds": round(result.seconds_searching, 2),
            "measuring": round(result.seconds_measuring, 2),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not in the logs yet; returns the exit code."""
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

    def work() -> int:
        if "tune" in arguments.stages:
            every = tunings(arguments.methods, arguments.seeds, arguments.cores)
            wanted = [each for each in every if each.history in arguments.histories]
            log.extend(TUNINGS, lambda known: _tuned(wanted, {_key(line) for line in known}))
        if "judge" in arguments.stages:
            lines = [line for line in log.read(TUNINGS) if line["cores"] == arguments.cores]
            log.extend(JUDGEMENTS, lambda known: _judged(lines, {_judgement(line) for line in known}))
            path = OUT / "llvm.jsonl"
            path.unlink(missing_ok=True)  # it follows from the logs
            log.append(path, *judged(lines, log.read(JUDGEMENTS)))
        return 0

    return ended("llvm_comparison", work, f"{FOLDER} keeps what was found, the same command goes on")


def measuring() -> Local:
    """What tunes and what judges: three times of 30 ms each."""
    return Local(repeat=3, min_repeat_ms=30)


def tunings(methods: Sequence[str], seeds: int, cores: int) -> Iterator[Tuning]:
    """Every tuning, random search first: it is the others' history. A seed is done before the next one is begun."""
    for seed in range(seeds):
        if "random" in methods:
            for network, layer in LAYERS:
                yield Tuning(network, layer, "random", "none", seed, cores)
        for network, layer in LAYERS:
            for history in HISTORIES:
                for method in methods:
                    if method != "random" and applies(method, history):
                        yield Tuning(network, layer, method, history, seed, cores)


def incumbents(result: TuneResult) -> list[Config | None]:
    """The best configuration after each budget up to `TRIALS`, the default schedule left out; None while all have failed."""
    measured = [record for record in result.records if record.config is not None]
    costs = np.array([record.measurement.cost if record.measurement.ok else np.inf for record in measured])
    best = [int(np.argmin(costs[:budget])) for budget in BUDGETS if budget <= TRIALS]
    return [measured[place].config if np.isfinite(costs[place]) else None for place in best]


def judged(lines: Sequence[dict], judgements: Iterable[dict]) -> list[dict]:
    """The tunings with the GFLOPS of their incumbents: the fastest of the last rounds, 0 where there is no incumbent."""
    last: dict[tuple, dict[int, float]] = defaultdict(dict)
    for line in judgements:
        last[_judgement(line)[:-1]][line["round"]] = line["gflops"]

    def gflops(line: dict, config: Config | None) -> float:
        if config is None:
            return 0.0
        return round(max(last[line["cores"], line["task"], _spelled(config)].values()), 2)

    best = [[gflops(line, config) for config in line["incumbents"]] for line in lines]
    return [{**line, "best": each, "judged": each[-1]} for line, each in zip(lines, best, strict=True)]


def _key(line: dict) -> tuple:
    return line["task"], line["method"], line["history"], line["seed"], line["cores"]


def _judgement(line: dict) -> tuple:
    return line["cores"], line["task"], _spelled(line["config"]), line["round"]


def _spelled(config: Config) -> str:
    return json.dumps(config, sort_keys=True)


def _tuned(wanted: Iterable[Tuning], done: set[tuple]) -> Iterator[dict]:
    for tuning in wanted:
        if (f"{tuning.network} {tuning.layer}", tuning.method, tuning.history, tuning.seed, tuning.cores) not in done:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                line = alone.submit(tuning.line).result()
            print(line, file=sys.stderr, flush=True)
            yield line


def _judged(lines: Iterable[dict], done: set[tuple]) -> Iterator[dict]:
    layers: dict[Tuning, dict[str, Config]] = defaultdict(dict)
    for line in lines:
        found = layers[Tuning(line["network"], line["layer"], "", "none", 0, line["cores"])]
        found.update({_spelled(config): config for config in line["incumbents"] if config is not None})
    for layer, found in layers.items():
        configs, named = list(found.values()), {"cores": layer.cores, "task": layer.task.label}
        every = [[{**named, "round": turn, "config": config} for config in configs] for turn in range(ROUNDS)]
        if done.issuperset(_judgement(begun) for turn in every for begun in turn):
            continue
        with measuring() as measurer:
            for turn in every:
                for place, again in measurer.stream(layer.task, configs):
                    yield {**turn[place], "gflops": round(layer.task.gflops(again.cost), 3) if again.ok else 0.0}
        print(f"{layer.network} {layer.layer}: {len(found)} kernels", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
