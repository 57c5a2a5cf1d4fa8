"""Published tuning records as arrays: layers to learn from, and tasks to search in.

They lie in the folder that the environment variable GAUSSTUNE_RECORDS names, else in ../shared/data beside the project.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int

from search import Source
from tvm_bridge import Task, networks, replay

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Layer:
    """What was recorded of one layer on one device.

    - `device`, `network`, `name`: the folder's names and the task's.
    - `x`: features of the configurations, log2 of factors.
    - `y`: GFLOPS, 0 where the configuration failed.
    - `unbiased`: which rows the random tuner measured, a uniform sample of the space; the others lean to the fast.
    - `admitted`: which rows the template does not refuse. The others could not run: their failure needs no measuring.
    """

    device: str
    network: str
    name: str
    x: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, " n"]
    unbiased: Bool[np.ndarray, " n"]
    admitted: Bool[np.ndarray, " n"]

    def only(self, rows: Bool[np.ndarray, " n"]) -> Layer:
        """The layer with these rows alone."""
        columns = ("x", "y", "unbiased", "admitted")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


@dataclass(frozen=True)
class Recorded:
    """A task whose every configuration was measured: a table, or the pool of what tuners tried.

    - `device`, `kind`, `name`: tasks of one kind can teach each other if either device or name is another's.
    - `source`: its space, confined to what was measured and is not refused, and the throughput of each configuration.
    """

    device: str
    kind: str
    name: str
    source: Source

    @classmethod
    def of(cls, task: Task, *, device: str, kind: str, name: str) -> Self:
        """What a replayed task recorded."""
        rows = _rows(task)
        rows = rows[np.asarray(task.space.valid(rows))]
        return cls(device, kind, name, Source(f"{name} on {device}", task.space.confine(rows), rows, _throughput(task, rows)))

    def throughput_of(self, knobs: Int[np.ndarray, "n knobs"]) -> Float[np.ndarray, " n"]:
        """Look configurations up; rows of the source stand in the order of their index."""
        place = np.searchsorted(np.array(self.source.space.to_index(self.source.knobs)), self.source.space.to_index(knobs))
        return self.source.throughput[place]

    def related(self, other: Recorded) -> bool:
        """Whether this task is history for another: the same kernel on another device, or another layer on the same."""
        same_kernel = self.kind == other.kind and self.name == other.name
        return self.kind == other.kind and (self.device == other.device) != same_kernel


def tables() -> list[Recorded]:
    """The exhaustive tables: a convolution on three GPUs, a matrix product on two."""
    files = [path for folder in ("kernel_tuner", "autotvm_exhaustive") for path in (records_folder() / folder).glob("*.gz")]
    tasks = ((path.name.removesuffix(".json.gz").rpartition("_"), replay([path])[0]) for path in sorted(files))
    return [Recorded.of(task, device=device, kind=kernel, name=kernel) for (kernel, _, device), task in tasks]


def pools(device: str) -> list[Recorded]:
    """What tuners measured of the layers of ResNet-18 and VGG-16 on a device."""
    return [
        Recorded.of(task, device=device, kind="conv2d", name=f"{network} {_name(network, task)}")
        for network in ("resnet-18", "vgg-16")
        for task in replay(_logs(device, network))
    ]


def records_folder() -> Path:
    """Where the records lie.

    **Raises:** `FileNotFoundError` naming the environment variable.
    """
    places = [Path(named)] if (named := os.environ.get("GAUSSTUNE_RECORDS")) else [PROJECT.parent / "shared" / "data"]
    if not places[0].is_dir():
        raise FileNotFoundError(f"{places[0]}: no records there; set GAUSSTUNE_RECORDS to the folder of the published logs.")
    return places[0]


def layers(device: str, network: str) -> list[Layer]:
    """Every layer of a network on a device.

    **Arguments:**

    - `device`: "gtx1650", "rtx3080" or "v100".
    - `network`: "resnet-18" or "vgg-16"; "nasnet-depthwise" on the V100, of which there are no unbiased rows.

    **Raises:** `FileNotFoundError` if there are no such records.
    """
    files = _logs(device, network)
    random = replay(file for file in files if file.name.startswith("random"))
    drawn = {task.key: task.space.to_index(_rows(task)) for task in random}
    return [_layer(device, network, task, drawn.get(task.key, [])) for task in replay(files)]


def _logs(device: str, network: str) -> list[Path]:
    files = sorted((records_folder() / "autotvm" / device / network).glob("*.jsonl.gz"))
    if not files:
        raise FileNotFoundError(f"device, network: no records of {network!r} on {device!r} in {records_folder()}.")
    return files


def _layer(device: str, network: str, task: Task, drawn: Sequence[int]) -> Layer:
    rows = _rows(task)
    return Layer(
        device,
        network,
        _name(network, task),
        x=np.asarray(task.space.features(rows)),
        y=_throughput(task, rows),
        unbiased=np.isin(np.array(task.space.to_index(rows)), np.array(drawn)),
        admitted=np.asarray(task.space.valid(rows)),
    )


def _rows(task: Task) -> Int[np.ndarray, "n knobs"]:
    assert task.space.pool is not None
    return task.space.pool.rows


def _throughput(task: Task, rows: Int[np.ndarray, "n knobs"]) -> Float[np.ndarray, " n"]:
    assert task.measurer is not None
    measured = (measurement for _, measurement in task.measurer.stream(task, [task.space.to_config(row) for row in rows]))
    return np.array([task.gflops(measurement.cost) if measurement.ok else 0.0 for measurement in measured], np.float32)


def _name(network: str, task: Task) -> str:
    """The layer's name in its network, or its arguments where the network is unknown."""
    known = networks.layers(network) if network in networks.NETWORKS else ()
    return next((layer.name for layer in known if layer.workload.args == list(task.args)), json.dumps(task.args))
