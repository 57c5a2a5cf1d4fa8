"""How fast the deep Gaussian process is beside GPyTorch's and beside XGBoost's trees, and how far from what the machine allows.

    python -m experiments.surrogate_speed --competitors PATH/TO/PYTHON

`--competitors` names an interpreter with GPyTorch and XGBoost in an environment of its own; `gpytorch_speed.py` says how it is
made. Both sides take turns in one run and medians are compared. Writes `experiments/results/surrogate_speed.{json,md}`.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from experiments.bounds import Peaks, Shape, Work, measured_peaks
from experiments.command import ended
from experiments.fresh_process import data
from experiments.interpreter import Interpreter
from surrogates import DeepGP, save
from tvm_bridge.arguments import Parser, positive

RESULTS = Path(__file__).parent / "results"
FEATURES, BATCH, ROWS, ADAPTED = 20, 256, 100_000, 300
KEY = jax.random.key(0)
NEVER = 1_000_000

MODELS = {
    "default": DeepGP(),
    "128 inducing points": DeepGP(inducing=128),
    "paper's settings": DeepGP.paper(),
}


@dataclass
class Row:
    """One comparison: seconds of a unit of ours, of theirs, and the least that the machine allows."""

    what: str
    unit: str
    ours: float
    theirs: float
    bound: float
    bound_by: str

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.theirs / self.ours

    @property
    def share(self) -> float:
        """What part of our time the bound is."""
        return self.bound / self.ours


class Competitors:
    """The process that times GPyTorch and XGBoost."""

    def __init__(self, python: str) -> None:
        self._interpreter = Interpreter(python, str(Path(__file__).with_name("gpytorch_speed.py")))
        shapes = {"features": FEATURES, "hidden": [10, 14], "inducing": 128, "batch": BATCH, "trees": 100, "depth": 3}
        self.versions = self._interpreter.ask(shapes | {"threads": os.cpu_count()})

    def seconds(self, what: str, **arguments: int) -> float:
        """The seconds of one call."""
        return self._interpreter.ask([what, arguments])

    def close(self) -> None:
        """End the process."""
        self._interpreter.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all, write the results; returns the exit code."""
    parser = Parser(prog="surrogate_speed", description="The deep Gaussian process beside GPyTorch's and beside XGBoost.")
    parser.add_argument("--competitors", required=True, help="a Python interpreter that has GPyTorch and XGBoost")
    parser.add_argument("--rounds", type=positive, default=5, help="how often each pair takes turns")
    arguments = parser.parse_args(argv)
    return ended(
        "surrogate_speed", lambda: _measured(arguments.competitors, arguments.rounds), "nothing is kept, start it again"
    )


def _measured(python: str, rounds: int) -> int:
    with closing(Competitors(python)) as others:
        peaks, versions = measured_peaks(), others.versions
        x, y = data(4096, features=FEATURES)
        fitted = {name: replace(model, epochs=10).fit(x, y, key=KEY) for name, model in MODELS.items()}
        rows = [
            *training(others, peaks, rounds),
            *prediction(fitted, others, peaks, rounds),
            *scoring(fitted, others, peaks, rounds),
        ]
    with tempfile.TemporaryDirectory() as folder:
        fresh = in_fresh_processes(fitted, Path(folder), rounds)
    record = {
        "versions": versions | {"jax": jax.__version__},
        "peaks": asdict(peaks),
        "rows": [asdict(row) | {"ratio": row.ratio, "share": row.share} for row in rows],
        "fresh": fresh,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "surrogate_speed.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "surrogate_speed.md").write_text(report(rows, fresh, peaks, record["versions"]))
    print((RESULTS / "surrogate_speed.md").read_text())
    return 0


def training(others: Competitors, peaks: Peaks, rounds: int) -> list[Row]:
    """A step of batch 256, one sample."""
    calls = {name: partial(step_seconds, model) for name, model in MODELS.items()}
    times = alternating(calls | {"GPyTorch": partial(others.seconds, "steps", count=10)}, rounds)
    return [
        compared(f"training step, {name}", "step", (times[name], times["GPyTorch"]), shape_of(model).step(BATCH), peaks)
        for name, model in MODELS.items()
    ]


def step_seconds(model: DeepGP, n: int = 4096, epochs: int = 40) -> float:
    """The median seconds of a training step, from the times between reports, which come every ten epochs."""
    times: list[float] = []
    x, y = data(n, features=FEATURES)
    settings = replace(model, epochs=epochs, patience=NEVER, batch=BATCH)
    settings.fit(x, y, key=KEY, progress=lambda epoch, rmse: times.append(time.perf_counter()))
    between = [after - before for before, after in itertools.pairwise(times)]
    return statistics.median(between) / (10 * n / BATCH)


def prediction(fitted: dict[str, DeepGP], others: Competitors, peaks: Peaks, rounds: int) -> list[Row]:
    """Mean and deviation of a row, by means and by samples; GPyTorch's time is that of fewer rows."""
    x, _ = data(ROWS, 1, FEATURES)
    rows = []
    for samples, theirs, few in ((0, 1, 8192), (1, 1, 8192), (10, 10, 2048)):
        way = f"{samples} samples" if samples else "means, beside 1 sample"
        calls = {name: timed(partial(predicted, model, x, samples)) for name, model in fitted.items()}
        slow = partial(others.seconds, "predict", rows=few, samples=theirs)
        times = alternating(calls | {"GPyTorch": lambda call=slow, n=few: call() * ROWS / n}, rounds)
        for name, model in fitted.items():
            work = shape_of(model).sample() * samples if samples else shape_of(model).prediction()
            pair = times[name] / ROWS, times["GPyTorch"] / ROWS
            rows.append(compared(f"prediction by {way}, {name}", "row", pair, work, peaks))
    return rows


def predicted(model: DeepGP, x: Any, samples: int) -> Any:
    """Mean and deviation; 0 samples propagates means."""
    return model.predict(x, samples=samples, key=KEY) if samples else model.predict(x)


def scoring(fitted: dict[str, DeepGP], others: Competitors, peaks: Peaks, rounds: int) -> list[Row]:
    """The scorer inside jit beside 100 trees of depth 3."""
    score, rows = eqx.filter_jit(lambda scorer, x: scorer(x)), []
    for n in (ROWS, 1_000_000):
        x = jnp.asarray(data(n, 1, FEATURES)[0])
        calls = {name: timed(partial(score, fitted[name].scorer(), x)) for name in ("default", "128 inducing points")}
        trees = {f"XGBoost, {count} thread": partial(others.seconds, "trees", rows=n, threads=count) for count in (1, 2)}
        times = alternating(calls | trees, rounds)
        rows += [
            compared(
                f"scores of {n:,} rows beside {other}, {name}",
                "row",
                (times[name] / n, times[other] / n),
                shape_of(fitted[name]).means(),
                peaks,
            )
            for name in calls
            for other in trees
        ]
    return rows


def in_fresh_processes(fitted: dict[str, DeepGP], folder: Path, rounds: int) -> dict[str, list[float]]:
    """Times and peak memory of processes that did nothing else: medians."""
    names = [f"feature {i}" for i in range(FEATURES)]
    paths = {name: str(folder / f"{number}.model") for number, name in enumerate(fitted)}
    for name, path in paths.items():
        save(path, replace(fitted[name], adapt_epochs=MODELS[name].adapt_epochs), features=names)
    few = range(min(rounds, 3))
    adaptations = [asked("adapted", paths["default"], ADAPTED) for _ in few]
    return {
        "import, s": [statistics.median(asked("imported") for _ in range(rounds))],
        f"adaptation to {ADAPTED} points, compiling and compiled, s": list(
            map(statistics.median, zip(*adaptations, strict=True))
        ),
        "peak memory of predicting 10^5 and 10^6 rows, bytes": [asked("predicted", paths["default"], 10**e) for e in (5, 6)],
        "peak memory of training on 10^5 and 10^6 rows, bytes": [asked("trained", 10**e) for e in (5, 6)],
    }


def asked(question: str, *arguments: object) -> Any:
    """A question's answer from a fresh process."""
    command = [sys.executable, "-m", "experiments.fresh_process", question, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def timed(call: Callable[[], Any]) -> Callable[[], float]:
    """A call, compiled now, that returns its seconds."""
    jax.block_until_ready(call())

    def seconds() -> float:
        started = time.perf_counter()
        jax.block_until_ready(call())
        return time.perf_counter() - started

    return seconds


def alternating(calls: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median seconds of calls that take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(call())
    return {name: statistics.median(values) for name, values in times.items()}


def compared(what: str, unit: str, pair: tuple[float, float], work: Work, peaks: Peaks) -> Row:
    """Seconds of ours and of theirs, and what the work takes at least."""
    return Row(what, unit, *pair, bound=peaks.seconds(work), bound_by=peaks.bound_by(work))


def shape_of(model: DeepGP) -> Shape:
    """The shape of a model of this experiment."""
    return Shape(FEATURES, model.hidden, model.inducing, model.inner == "full")


def report(rows: Sequence[Row], fresh: dict[str, list[float]], peaks: Peaks, versions: dict[str, str]) -> str:
    """The tables, in Markdown."""
    lines = [
        f"Medians in turns; {', '.join(f'{name} {version}' for name, version in versions.items())}. Measured peaks: "
        f"{peaks.flop / 1e9:.0f} GFLOP/s, {peaks.exponentials / 1e9:.1f} G exponentials/s, {peaks.bytes / 1e9:.0f} GB/s.",
        "",
        "| | ours | theirs | times faster | bound | share of it | bound by |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in rows:
        scale, unit = (1e3, "ms") if line.unit == "step" else (1e6, "us")
        ours, theirs, bound = (f"{value * scale:.3g} {unit}" for value in (line.ours, line.theirs, line.bound))
        lines.append(f"| {line.what} | {ours} | {theirs} | {line.ratio:.1f} | {bound} | {line.share:.0%} | {line.bound_by} |")
    lines += ["", "| in fresh processes | |", "|---|---|"]
    lines += [f"| {what} | {', '.join(f'{value:.3g}' for value in values)} |" for what, values in fresh.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
