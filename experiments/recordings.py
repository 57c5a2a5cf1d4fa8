"""Logs of one's own as lessons for models: what was recorded of each task on each device, by the model that it is for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.recorded import Layer, Recorded
from tvm_bridge import Task, networks, replay
from tvm_bridge.convolution import Conv2d
from tvm_bridge.pretrained import name_of


@dataclass(frozen=True)
class Recording:
    """What was recorded of one task on one device.

    - `layer`: its features and throughputs, without what the template refuses.
    - `networks`: those that have the layer; none if it is in none that is known.
    - `features`: the names of the features.
    - `refused`: configurations that the template refuses.
    """

    layer: Layer
    networks: tuple[str, ...]
    features: tuple[str, ...]
    refused: int


def recordings(logs: Sequence[Path]) -> dict[str, list[Recording]]:
    """What logs hold, by the name of the model that it is for.

    **Raises:** `FileNotFoundError` naming a log that is not there, `ValueError` if there is nothing to learn from.
    """
    if absent := [path for path in logs if not path.exists()]:
        raise FileNotFoundError(f"LOG: {absent[0]} is not there; give logs that experiments/record.py wrote.")
    groups: dict[str, list[Recording]] = {}
    for task in replay(logs):
        if (name := name_of(task)) is None:
            warnings.warn(f"{task.name}: left out, its target {str(task.target)!r} names no family of devices.", stacklevel=2)
            continue
        recording = _recording(task)
        if len(recording.layer.y):
            groups.setdefault(name, []).append(recording)
    if not groups:
        raise ValueError(f"LOG: no configuration of a known device was measured in {', '.join(map(str, logs))}.")
    return groups


def _recording(task: Task) -> Recording:
    """What a replayed task recorded."""
    assert task.measurer is not None
    assert task.workload is not None
    device, workload = task.measurer.device(task), task.workload
    nchw = replace(workload, layout="NCHW") if isinstance(workload, Conv2d) else workload
    homes = {
        network: layer.name for network in networks.NETWORKS for layer in networks.layers(network) if layer.workload == nchw
    }
    source = Recorded.of(task, device=device, kind=task.operator, name=task.name).source
    every = np.ones(len(source.knobs), bool)
    layer = Layer(
        device,
        next(iter(homes), ""),
        next((f"{network} {name}" for network, name in homes.items()), workload.summary),
        x=np.asarray(source.space.features(source.knobs)),
        y=np.asarray(source.throughput, np.float32),
        unbiased=every,
        admitted=every,
    )
    return Recording(layer, tuple(homes), source.space.feature_names, task.space.size - len(source.knobs))
