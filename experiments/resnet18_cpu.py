"""ResNet-18's layers on this CPU: the best of some random configurations beside TVM's untuned schedule and PyTorch's oneDNN.

    python experiments/resnet18_cpu.py --trials 64 --torch-python PATH/TO/PYTHON

`--torch-python` names an interpreter with PyTorch in an environment of its own. Every layer is tuned (resumably, into
`out/resnet18_cpu.jsonl`); then, layer by layer in one run, the best kernel and PyTorch take turns, and medians are compared.
Writes `experiments/results/resnet18_cpu.{json,md,png}`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import jax

from tvm_bridge import Local, Record, networks, tune
from tvm_bridge.arguments import Parser, positive
from tvm_bridge.measure import jobs
from tvm_bridge.measure.compiling import subject_of
from tvm_bridge.measure.process import Worker
from tvm_bridge.target import Target
from tvm_bridge.task import task_of

RESULTS = Path(__file__).parent / "results"
ROUNDS = 5


@dataclass
class Row:
    """One layer's speeds in GFLOPS; torch None where there is no PyTorch."""

    layer: str
    untuned: float
    tuned: float
    torch: float | None
    median_of_random: float
    failed: int


@dataclass
class Costs:
    """What a candidate costs in seconds, one builder and the runner alone; medians of one layer's random configurations."""

    start: float
    build: float
    run: float


def main() -> int:
    """Tune, compare, write the results."""
    parser = Parser(
        prog="resnet18_cpu.py", description="ResNet-18's layers on this CPU beside the untuned schedule and PyTorch."
    )
    parser.add_argument("--trials", type=positive, default=64, help="random configurations of each layer")
    parser.add_argument("--torch-python", help="a Python interpreter that has PyTorch; left out if not given")
    parser.add_argument("--out", type=Path, default=Path("out"), help="the folder of the log")
    arguments = parser.parse_args()
    target = Target("llvm").resolve()
    layers = networks.layers("resnet-18")
    tasks = [task_of(layer.workload, target, label=f"resnet-18 {layer.name}") for layer in layers]

    results = []
    with Local() as measurer:
        device = measurer.device(tasks[0])
        for number, task in enumerate(tasks, start=1):
            results.append(
                tune(
                    task,
                    method="random",
                    trials=arguments.trials,
                    log=arguments.out / "resnet18_cpu.jsonl",
                    measurer=measurer,
                    progress=(number, len(tasks)),
                )
            )
    rate = statistics.median(_rate(result.records[1:]) for result in results)

    rows = []
    with _torch(arguments.torch_python) as torch, tempfile.TemporaryDirectory() as folder:
        for layer, task, result in zip(layers, tasks, results, strict=True):
            times = _alternating(task, result.best.config, torch, Path(folder))
            speeds = [task.gflops(record.measurement.cost) for record in result.records[1:] if record.measurement.ok]
            rows.append(
                Row(
                    layer.name,
                    result.default.gflops if result.default else 0.0,
                    task.gflops(times[0]),
                    task.gflops(times[1]) if times[1] else None,
                    statistics.median(speeds),
                    sum(result.errors.values()),
                )
            )
            print(rows[-1], flush=True)
        costs = _costs(tasks[6], Path(folder))
    _write(device, rows, costs, rate=rate, trials=arguments.trials, torch=torch.version if torch else None)
    return 0


class _Torch:
    """The process that times PyTorch."""

    def __init__(self, requests: IO[str], answers: IO[str]) -> None:
        self._requests, self._answers = requests, answers
        self.version = self._answer()["torch"]

    def seconds(self, task) -> float:
        """The median seconds of PyTorch's call."""
        workload = task.workload
        request = {name: getattr(workload, name) for name in ("data", "weight", "stride", "padding", "dilation", "groups")}
        self._requests.write(json.dumps(request | {"threads": task.target.threads, "seconds": 0.3}) + "\n")
        self._requests.flush()
        return self._answer()

    def _answer(self):
        line = self._answers.readline()
        if not line:
            raise RuntimeError("--torch-python: the interpreter ended; does it have PyTorch?")
        return json.loads(line)


@contextmanager
def _torch(python: str | None):
    if python is None:
        yield None
        return
    script = Path(__file__).with_name("torch_convolution.py")
    with subprocess.Popen([python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield _Torch(process.stdin, process.stdout)
        process.stdin.close()


def _alternating(task, config, torch: _Torch | None, folder: Path) -> tuple[float, float | None]:
    """Median seconds of our kernel and of PyTorch, in turns."""
    worker = Worker({"TVM_NUM_THREADS": str(task.target.threads)})
    built = worker.call(jobs.build, subject_of(task), config, str(folder / "kernel.so"), limit=60).value
    worker.call(jobs.prepare, subject_of(task), None, 0.0, True, limit=60)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours += worker.call(jobs.run, built, task.target.kind, jobs.Timing(min_repeat_ms=100, repeat=3), limit=60).value
        if torch is not None:
            theirs.append(torch.seconds(task))
    worker.stop()
    return statistics.median(ours), statistics.median(theirs) if theirs else None


def _costs(task, folder: Path) -> Costs:
    """Time the parts of a measurement: the start of a process, a build, a run."""
    configs = [task.space.to_config(row) for row in task.space.sample(jax.random.key(1), 16)]
    worker = Worker({"TVM_NUM_THREADS": str(task.target.threads)})
    started = time.perf_counter()
    worker.call(jobs.local_device, "llvm", limit=60)  # loads TVM and the bridge
    start = time.perf_counter() - started
    worker.call(jobs.prepare, subject_of(task), None, 0.0, True, limit=60)
    builds, runs = [], []
    for number, config in enumerate(configs):
        build = worker.call(jobs.build, subject_of(task), config, str(folder / f"{number}.so"), limit=60)
        run = worker.call(jobs.run, build.value, "llvm", jobs.Timing(), limit=60)
        builds.append(build.seconds)
        runs.append(run.seconds)
    worker.stop()
    return Costs(start, statistics.median(builds), statistics.median(runs))


def _rate(records: Sequence[Record]) -> float:
    """Candidates a second, by the records' own times."""
    times = sorted(record.measurement.timestamp for record in records)
    return (len(times) - 1) / (times[-1] - times[0])


def _write(device: str, rows: list[Row], costs: Costs, *, rate: float, trials: int, torch: str | None) -> None:
    RESULTS.mkdir(exist_ok=True)
    record = {
        "device": device,
        "trials": trials,
        "torch": torch,
        "candidates_per_second": rate,
        "costs": asdict(costs),
        "rows": [asdict(row) for row in rows],
    }
    (RESULTS / "resnet18_cpu.json").write_text(json.dumps(record, indent=1) + "\n")
    header = f"GFLOPS on {device}; best and median of {trials} random valid configurations"
    lines = [
        header + (f"; PyTorch {torch} in turns with the best." if torch else "."),
        "",
        "| layer | untuned | median | best | best / untuned | PyTorch | best / PyTorch |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        beside = f"{row.torch:.0f} | {row.tuned / row.torch:.2f}" if row.torch else "- | -"
        gain = f"{row.tuned / row.untuned:.0f}" if row.untuned else "-"
        lines.append(f"| {row.layer} | {row.untuned:.1f} | {row.median_of_random:.0f} | {row.tuned:.0f} | {gain} | {beside} |")
    if torch:
        mean = statistics.geometric_mean(row.tuned / row.torch for row in rows if row.torch)
        lines.append(f"| geometric mean | | | | | | {mean:.2f} |")
    lines += [
        "",
        f"{rate:.2f} candidates a second, built, checked and measured. One candidate: build {costs.build:.2f} s (one builder a "
        f"core), run {costs.run:.2f} s; start of a process {costs.start:.2f} s, once.",
    ]
    (RESULTS / "resnet18_cpu.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    _plot(header, rows, torch)


def _plot(title: str, rows: list[Row], torch: str | None) -> None:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print("resnet18_cpu.py: no picture; install the extra 'plot' for it", file=sys.stderr)
        return
    series = [("TVM untuned", [row.untuned for row in rows]), ("median of random", [row.median_of_random for row in rows])]
    series += [("PyTorch (oneDNN)", [row.torch or 0.0 for row in rows])] if torch else []
    series += [("best", [row.tuned for row in rows])]
    figure, axes = plt.subplots(figsize=(11, 4.5), layout="constrained")
    width = 0.8 / len(series)
    for place, (name, values) in enumerate(series):
        axes.bar([x + place * width for x in range(len(rows))], values, width, label=name)
    axes.set_xticks([x + 0.4 - width / 2 for x in range(len(rows))], [row.layer for row in rows], rotation=30, ha="right")
    axes.set_ylabel("GFLOPS")
    axes.set_title(title, fontsize=9, loc="left")
    figure.legend(loc="outside upper right", ncols=len(series))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.savefig(RESULTS / "resnet18_cpu.png", dpi=120)


if __name__ == "__main__":
    sys.exit(main())
