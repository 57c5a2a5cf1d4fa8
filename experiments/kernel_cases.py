"""Layers of networks as cases of an experiment on this CPU: what is tuned, and where what was found of it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from tvm_bridge import Record, Target, best_records, networks, read_records
from tvm_bridge.convolution import Conv2d
from tvm_bridge.measure.compiling import compiler_environment, subject_of
from tvm_bridge.measure.jobs import Subject
from tvm_bridge.measure.process import Worker
from tvm_bridge.networks import Layer
from tvm_bridge.task import Task, task_of

CHANNELS_LAST = "-nhwc"
"""What a layer's name in logs ends with if it is the one with data and result in NHWC."""


class Missing(Exception):
    """A case cannot be handled, yet or at all; the message says why, and the others go on."""


@dataclass(frozen=True)
class Case:
    """A layer of a network on so many threads; `folder` is that of the experiment with so many threads."""

    network: str
    layer: Layer
    threads: int
    folder: Path

    @property
    def label(self) -> str:
        """The layer's name in logs."""
        return f"{self.network} {self.layer.name}"

    @property
    def group(self) -> str:
        """Depthwise, pointwise (1x1), or dense: any other."""
        if self.layer.workload.depthwise:
            return "depthwise"
        return "pointwise" if self.layer.workload.weight[2:] == (1, 1) else "dense"

    @property
    def channels_last(self) -> Case:
        """The same layer with data and result in NHWC, as a case of its own."""
        workload = replace(self.layer.workload, layout="NHWC")
        return replace(self, layer=replace(self.layer, name=self.layer.name + CHANNELS_LAST, workload=workload))

    @cached_property
    def task(self) -> Task:
        """What is tuned: the layer with all algorithms that its template has."""
        return task_of(self.layer.workload, target(self.threads), label=self.label, enlarged=True)

    @cached_property
    def subject(self) -> Subject:
        """The same, as other processes take it."""
        return subject_of(self.task)

    @property
    def records(self) -> Path:
        """The log of our measurements."""
        return self.folder / "tune" / f"{self.network}-{self.layer.name}.jsonl"

    @property
    def searched(self) -> Path:
        """The folder of MetaSchedule's search."""
        return self.folder / "metaschedule" / f"{self.network}-{self.layer.name}"

    @property
    def measurements(self) -> list[Record]:
        """Our measurements so far, that of TVM's default schedule among them."""
        records = read_records(self.records) if self.records.exists() else []
        return [record for record in records if record.key == self.task.key]

    @property
    def measured(self) -> int:
        """How many configurations were measured so far, failed ones included."""
        return sum(record.config is not None for record in self.measurements)

    @property
    def best(self) -> Record | None:
        """The fastest of our measurements; None before there is one."""
        return best_records(self.records).get(self.task.key) if self.records.exists() else None


def cases(names: Iterable[str], layers: Sequence[str] | None, threads: int, out: Path) -> list[Case]:
    """The layers of networks, each distinct one once, under the first network that has it.

    **Arguments:**

    - `names`: networks.
    - `layers`: only layers of these names; None for all.
    - `threads`: of a kernel.
    - `out`: the experiment's folder.

    **Raises:** `ValueError` for a network that there is not, or a layer that none of the networks has.
    """
    names = list(names)
    distinct: dict[Conv2d, Case] = {}
    for network in names:
        for layer in networks.layers(network):
            if layers is None or layer.name in layers:
                distinct.setdefault(layer.workload, Case(network, layer, threads, out / f"{threads}-threads"))
    absent = set(layers or ()) - {layer.name for network in names for layer in networks.layers(network)}
    if absent:
        raise ValueError(f"--layers: none of {', '.join(names)} has a layer {', '.join(sorted(absent))}.")
    return list(distinct.values())


def target(threads: int, name: str = "llvm") -> Target:
    """A target by the name that `Target.parse` takes; a kernel on a CPU uses so many cores, unless the name tells how many.

    **Raises:** `ValueError` as `Target.parse` and `Target.resolve` do.
    """
    parsed = Target.parse(name)
    cores = (("num-cores", threads),) if parsed.kind == "llvm" and "num-cores" not in dict(parsed.attributes) else ()
    return replace(parsed, attributes=(*parsed.attributes, *cores)).resolve()


@contextmanager
def process(threads: int, target: Target | None = None) -> Iterator[Worker]:
    """A process whose kernels run on so many threads; one for a GPU, which `target` names, compiles as measuring does."""
    worker = Worker({"TVM_NUM_THREADS": str(threads)} | (compiler_environment(target) if target else {}))
    try:
        yield worker
    finally:
        worker.stop()
