"""Fit the models that ship, and write of each what it has learned and how well: a card.

    python -m experiments.pretrain experiments/records/*.jsonl.gz --leave-out vgg-16 --out tvm_bridge/pretrained

Of every operator and family of devices that the logs hold, it writes `<name>.gst`, which `bridge.tune` finds by its name (see
`tvm_bridge.pretrained`), and the card `<name>.md`. The card judges a model of the other networks on the layers of one that was
left out; the model itself has learned them all. The same records, seed and versions give the same files.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments import model_card
from experiments.ablations import InUnit, seeded
from experiments.accuracy import judged
from experiments.command import ended
from experiments.model_card import Figures
from experiments.recorded import Layer
from experiments.recordings import Recording, recordings
from experiments.surrogate_accuracy import chosen
from surrogates import DeepGP, Residual, SquareRoot, save
from surrogates.pooling import pool
from tvm_bridge import networks
from tvm_bridge.arguments import Parser, natural, positive
from tvm_bridge.pretrained import SUFFIX
from tvm_bridge.progress import QUIET_SECONDS

RECIPE = DeepGP()
"""The model, of square roots of shares of each task's best: what `gausstune` fits to a history."""


def main(argv: Sequence[str] | None = None) -> int:
    """Fit and write the models; returns the exit code."""
    parser = Parser(prog="pretrain", description="Fit models to records of devices, and write their cards.")
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="logs of measurements, or folders of tuned networks")
    parser.add_argument("--leave-out", required=True, metavar="NETWORK", help="the network on which accuracy is judged")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the models and cards are written")
    parser.add_argument("--rows", type=positive, help="learn so many random configurations of a task; all if not given")
    parser.add_argument("--points", type=positive, default=64, help="how many of a layer left out the model is adapted to")
    parser.add_argument("--seed", type=natural, default=0, help="of everything random")
    arguments = parser.parse_args(argv)
    command = shlex.join(["python", "-m", "experiments.pretrain", *(sys.argv[1:] if argv is None else argv)])

    def work() -> int:
        networks.layers(arguments.leave_out)  # refuses an unknown one
        _say(f"pretrain: reading {len(arguments.logs)} logs")
        groups = recordings(arguments.logs)
        if not any(arguments.leave_out in each.networks for group in groups.values() for each in group):
            raise ValueError(f"--leave-out: the logs have no layer of {arguments.leave_out}; name a network that they have.")
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, group in groups.items():
            _write(arguments, name, group, command)
        return 0

    return ended("pretrain", work, f"{arguments.out} keeps the models that were finished")


def learned(some: Sequence[Recording], *, seed: int, rows: int | None = None, say: Callable[[str], None]) -> SquareRoot:
    """A model of all recordings, throughputs as shares of each one's best.

    **Arguments:**

    - `rows`: how many random configurations of each to learn; None for all.
    - `say`: hears how far it has come.
    """
    known = pool([_points(each.layer, rows, seed) for each in some])
    began = heard = time.monotonic()

    def progress(epochs: int, rmse: float) -> None:
        nonlocal heard
        if time.monotonic() - heard > QUIET_SECONDS:
            heard = time.monotonic()
            say(f"epoch {epochs} of at most {RECIPE.epochs}, RMSE {rmse:.3f}, {heard - began:.0f} s")

    say(f"learning {len(known.y)} configurations of {len(some)} tasks")
    # what `SquareRoot.fit` does, which tells of no progress
    return SquareRoot(RECIPE.fit(known.x, np.sqrt(known.y), key=jax.random.key(seed), progress=progress))


def figures(model: SquareRoot, some: Iterable[Recording], *, points: int, seed: int) -> Iterator[Figures]:
    """How well a model predicts layers that it has not learned: as it is, and adapted to some random configurations of each.

    Both are judged on the configurations that it was not adapted to. Layers of which nothing is left to judge are passed over.
    """
    for each in some:
        layer = each.layer
        rows, held = chosen(layer, "random", points, zero_shot=model, seed=seed)
        if not (len(rows) > 1 and len(held) > 1 and layer.y[rows].max() > 0 and layer.y[held].max() > 0):
            continue
        ready = {
            model_card.READY: InUnit(model, float(layer.y[rows].max())),
            model_card.ADAPTED: SquareRoot(Residual(model.base)).adapt(layer.x[rows], layer.y[rows], key=seeded(seed, points)),
        }
        for name, surrogate in ready.items():
            mean, std = (np.asarray(values) for values in surrogate.predictive(layer.x[held]))
            score = np.asarray(surrogate.scorer()(layer.x[held]))
            yield {
                **{"device": layer.device, "layer": layer.name, "surrogate": name},
                **judged(score, mean, std, layer.y[held]),
            }


def _write(arguments, name: str, group: Sequence[Recording], command: str) -> None:
    """Judge and fit one model, and write it with its card."""

    def say(message: str) -> None:
        _say(f"{name}: {message}")

    left_out = [each for each in group if arguments.leave_out in each.networks]
    others = [each for each in group if arguments.leave_out not in each.networks]
    judgements: list[Figures] = []
    if left_out and others:
        say(f"without {arguments.leave_out}")
        model = learned(others, seed=arguments.seed, rows=arguments.rows, say=say)
        say(f"judging {len(left_out)} layers of {arguments.leave_out}")
        judgements = list(figures(model, left_out, points=arguments.points, seed=arguments.seed))
    say("all networks")
    model = learned(group, seed=arguments.seed, rows=arguments.rows, say=say)
    path = arguments.out / f"{name}{SUFFIX}"
    save(path, model, features=group[0].features)
    card = model_card.written(
        name,
        group,
        model,
        judgements,
        asked={name: getattr(arguments, name) for name in ("leave_out", "points", "rows", "seed")},
        size=path.stat().st_size,
        command=command,
    )
    path.with_suffix(".md").write_text(card, encoding="utf-8")
    say(f"wrote {path}, {path.stat().st_size} bytes, and its card")


def _points(layer: Layer, rows: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and throughputs of a layer, of so many random configurations."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(layer.y))[:rows])
    return layer.x[drawn], layer.y[drawn]


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
