"""How accurate surrogates are on layers they have not seen: the papers' ablations on published records of real GPUs.

    python -m experiments.surrogate_accuracy run --device gtx1650
    python -m experiments.surrogate_accuracy run --device rtx3080 --sources both
    python -m experiments.surrogate_accuracy report

For each layer of ResNet-18, models are pre-trained on the other layers and VGG-16, adapted with a few points of the layer and
judged on its other points. `run` appends to `out/surrogate_accuracy/*.jsonl` and goes on where it was stopped; `report` writes
`experiments/results/surrogate_accuracy.{md,json,png}` from all of them. On a machine of few cores one process per device, each
bound to a core, is the fastest. `experiments/recorded.py` says where the records are looked for.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from experiments import accuracy_report, log
from experiments.ablations import ABLATIONS, Sources, seeded
from experiments.accuracy import judged
from experiments.accuracy_report import SELECTED
from experiments.command import ended
from experiments.recorded import Layer, layers
from surrogates import Surrogate
from tvm_bridge.arguments import Parser, positive

Case = tuple[Layer, int, str, int, str]
"""A layer, the points of a tuning set, how they are chosen, a seed and a surrogate's name."""

OUT = Path("out") / "surrogate_accuracy"

LAST = "all"
"""The judgement that is made last: a case that has it is done."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not in the logs yet, or report on them; returns the exit code."""
    parser = Parser(prog="surrogate_accuracy", description="Surrogates on published records of GPUs.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="judge the surrogates on one device's layers")
    run.add_argument("--device", choices=("gtx1650", "rtx3080", "v100"), required=True, help="v100: depthwise layers")
    run.add_argument("--sources", choices=("same", "both"), default="same", help="other layers on the same device, or on both")
    run.add_argument("--rows", choices=("admitted", "all"), default="admitted", help="all: also what the template refuses")
    run.add_argument("--points", type=positive, nargs="+", default=[64, 300], help="sizes of the tuning set")
    run.add_argument("--seeds", type=positive, default=3, help="how many tuning sets of each kind")
    run.add_argument("--layers", nargs="+", metavar="NAME", help="judge these only, say to share the work among processes")
    run.add_argument("--surrogates", nargs="+", choices=tuple(ABLATIONS), default=list(ABLATIONS), metavar="NAME")
    commands.add_parser("report", help="write tables and figure from all logs")
    arguments = parser.parse_args(argv)

    def work() -> int:
        if arguments.command == "report":
            accuracy_report.write(sorted(OUT.glob("*.jsonl")))
        else:
            path = OUT / f"{arguments.device}-{arguments.sources}-{arguments.rows}.jsonl"
            log.extend(path, lambda known: _figures(arguments, {_key(line) for line in known if line["judge"] == LAST}))
        return 0

    return ended("surrogate_accuracy", work, f"{OUT} keeps what was found, the same command goes on")


def _key(line: dict) -> tuple:
    return tuple(line[name] for name in ("layer", "points", "selection", "seed", "surrogate"))


def _figures(arguments, done: set[tuple]) -> Iterator[dict]:
    """A line of the log for every layer, tuning set, surrogate and kind of judged points that is not done."""
    known, judged_layers = _layers(arguments)
    if absent := set(arguments.layers or ()) - {layer.name for layer in judged_layers}:
        raise ValueError(f"--layers: {', '.join(sorted(absent))} not among {', '.join(layer.name for layer in judged_layers)}.")
    together = 5 if arguments.device == "v100" else 1  # its layers are twice as many, so they share what was learned
    for first in range(0, len(judged_layers), together):
        group = judged_layers[first : first + together]
        asked = [layer for layer in group if not arguments.layers or layer.name in arguments.layers]
        wanted = [case for case in _cases(arguments, asked) if (case[0].name, *case[1:]) not in done]
        if not wanted:
            continue
        began = time.perf_counter()
        left_out = {(layer.network, layer.name) for layer in group}
        tasks = [_taught(layer) for layer in known if (layer.network, layer.name) not in left_out]
        folder = OUT / "models" / f"{arguments.device}-{arguments.sources}-{arguments.rows}-{first}"
        sources = Sources.of(tasks, key=seeded(first), folder=folder)
        _say(f"{arguments.device}: pre-trained on {len(tasks)} layers in {time.perf_counter() - began:.0f} s")
        for case in wanted:
            yield from _lines(arguments, sources, case)
        _say(f"{arguments.device}: judged {', '.join(layer.name for layer in group)}; {time.perf_counter() - began:.0f} s")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _cases(arguments, group: list[Layer]) -> Iterator[Case]:
    seeds = range(arguments.seeds)
    return itertools.product(group, arguments.points, SELECTED, seeds, arguments.surrogates)


def _lines(arguments, sources: Sources, case: Case) -> Iterator[dict]:
    """Fit one surrogate to one tuning set and judge it."""
    layer, points, selection, seed, name = case
    rows, held = chosen(layer, selection, points, zero_shot=sources.deep_gp, seed=seed)
    began = time.perf_counter()
    model = ABLATIONS[name](sources, layer.x[rows], layer.y[rows], seeded(seed, points))
    line = {
        **{"device": layer.device, "sources": arguments.sources, "rows": arguments.rows, "layer": layer.name},
        **{"points": points, "selection": selection, "seed": seed, "surrogate": name},
        "seconds": round(time.perf_counter() - began, 3),
    }
    for judge, figures in _judgements(model, layer, held):
        yield line | {"judge": judge} | figures


def _layers(arguments) -> tuple[list[Layer], list[Layer]]:
    """The layers that are learned from and those that are judged."""
    if arguments.device == "v100":
        known = judged_layers = layers("v100", "nasnet-depthwise")
    else:
        devices = (arguments.device,) if arguments.sources == "same" else ("gtx1650", "rtx3080")
        known = [layer for device in devices for network in ("resnet-18", "vgg-16") for layer in layers(device, network)]
        judged_layers = [layer for layer in known if (layer.device, layer.network) == (arguments.device, "resnet-18")]
    if arguments.rows == "admitted":
        known, judged_layers = ([layer.only(layer.admitted) for layer in group] for group in (known, judged_layers))
    return known, judged_layers


def _taught(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """The points that a layer is learned from: its uniform sample, and as many of those that tuners went for."""
    others = np.random.default_rng(0).permutation(np.flatnonzero(~layer.unbiased))[: max(600, layer.unbiased.sum())]
    rows = layer.unbiased.copy()
    rows[others] = True
    return layer.x[rows], layer.y[rows]


def chosen(
    layer: Layer, selection: str, points: int, *, zero_shot: Surrogate, seed: int
) -> tuple[Int[np.ndarray, " s"], Int[np.ndarray, " h"]]:
    """A tuning set, and the rows that are left to be judged.

    A third of the unbiased rows and half of the others are never chosen, so that good points remain in every judgement. "top"
    takes what the zero-shot prediction ranks first (ICCV 2021, Algorithm 2), "random" unbiased rows and others where these run
    out, "half" as many of either.
    """
    generator = np.random.default_rng([seed, points])
    unbiased, others = (generator.permutation(np.flatnonzero(rows)) for rows in (layer.unbiased, ~layer.unbiased))
    drawn = np.concatenate([unbiased[len(unbiased) // 3 :], others[: len(others) // 2]])
    ranked = drawn[np.argsort(-np.asarray(zero_shot.predict(layer.x[drawn]).mean), kind="stable")]
    best = ranked[: {"top": points, "random": 0, "half": points // 2}[selection]]
    rows = np.concatenate([best, drawn[~np.isin(drawn, best)][: points - len(best)]])
    return rows, np.setdiff1d(np.arange(len(layer.y)), rows)


def _judgements(model: Surrogate, layer: Layer, held: Int[np.ndarray, " h"]) -> Iterator[tuple[str, dict[str, float]]]:
    """The figures on held-out unbiased points and on all held-out points."""
    mean, std = (np.asarray(values) for values in model.predictive(layer.x[held]))
    y, score, unbiased = layer.y[held], np.asarray(model.scorer()(layer.x[held])), layer.unbiased[held]
    doubt: Float[np.ndarray, " h"] | None = std if std.any() else None
    if unbiased.any():
        yield "random", judged(score[unbiased], mean[unbiased], None if doubt is None else doubt[unbiased], y[unbiased])
    yield LAST, judged(score, mean, doubt, y)


if __name__ == "__main__":
    sys.exit(main())
