"""MetaSchedule's and PyTorch's kernels of a layer, as rivals that `device_judgement.Judging` gives turns."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from experiments import kernel_cases, metaschedule, torch_cuda_convolution
from experiments.device_comparison import Setting
from experiments.metaschedule_network import first_rounds
from experiments.torch_convolution import Torch
from experiments.torch_cuda_convolution import EAGER, KERNELS
from tvm_bridge import networks
from tvm_bridge.measure import jobs
from tvm_bridge.measure.base import DeviceError
from tvm_bridge.measure.compiling import subject_of
from tvm_bridge.measure.process import Worker
from tvm_bridge.target import host_cores

LIMIT = 30.0
"""Seconds that a build and that a run of a candidate of MetaSchedule may take."""
JOB_LIMIT = 300.0
"""Seconds that preparing, building or running a kernel may take when it is judged."""


def process(setting: Setting) -> AbstractContextManager[Worker]:
    """A process for MetaSchedule: on a CPU its candidates run on as many threads as ours, beside a GPU it has all cores."""
    threads = setting.target.threads if setting.target.kind == "llvm" else host_cores()
    return kernel_cases.process(threads, setting.target)


class MetaSchedule:
    """The best of MetaSchedule's candidates after each budget, as far as its search has come."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._failures: dict[str, str] = {}

    def folder(self, network: str, layer: str) -> Path:
        """Where the search of a layer is kept."""
        return self._setting.folder / "metaschedule" / f"{network}-{layer}"

    def search(self, worker: Worker, network: str, layer: str, limit: float) -> str:
        """Search a layer in another process, for at most so many seconds; returns what went wrong.

        **Raises:** `DeviceError` if there is no device: all candidates would fail, and that would count as a search.
        """
        setting = self._setting
        _done(worker, jobs.local_device, setting.target.kind)
        cores = host_cores() if setting.target.kind == "cuda" else None
        outcome = worker.call(
            metaschedule.tune,
            subject_of(setting.task(network, layer)),
            self.folder(network, layer),
            setting.trials,
            min(metaschedule.BATCH, setting.budgets[0]),
            metaschedule.Conditions(LIMIT, setting.min_repeat_ms, cores),
            limit=limit,
        )
        return outcome.message if outcome.failure else ""

    def finished(self, network: str, layer: str) -> bool:
        """Whether the search of a layer has come to its end."""
        return metaschedule.finished(self.folder(network, layer), self._setting.trials)

    def kernels(self, network: str, layer: str) -> list[str]:
        """A name for each budget; none before the search is finished, since one that was stopped starts over."""
        return [kernel_name(budget) for budget in self._setting.budgets] if self.finished(network, layer) else []

    def turns(self, network: str, layer: str) -> Generator[dict[str, float]]:
        """Build the best of the first rounds of each budget, and run them; one that fails is not built again."""
        task, names = self._setting.task(network, layer), self.kernels(network, layer)
        subject, self._failures = subject_of(task), {}
        timing = jobs.Timing(repeat=3, min_repeat_ms=self._setting.min_repeat_ms)
        with process(self._setting) as worker, tempfile.TemporaryDirectory() as scratch:
            built: dict[str, jobs.Built] = {}
            while True:
                turn = dict.fromkeys(names, 0.0)
                for name, budget in zip(names, self._setting.budgets, strict=False):
                    if name in self._failures:
                        continue
                    _done(worker, jobs.prepare, subject, None, 0.0, True)
                    try:
                        if name not in built:
                            first = first_rounds(self.folder(network, layer), budget, Path(scratch, name))
                            built[name] = _done(worker, metaschedule.build, subject, first, f"{scratch}/{name}.so")
                        seconds = _done(worker, jobs.run, built[name], self._setting.target.kind, timing)
                        turn[name] = task.gflops(statistics.median(seconds))
                    except RuntimeError as error:
                        self._failures[name] = str(error)
                        worker.stop()  # it may have written where it should not, and an error poisons a GPU's context
                yield turn

    @property
    def facts(self) -> dict[str, Any]:
        """Why kernels of the last layer have failed."""
        return {"metaschedule": self._failures}


def kernel_name(budget: int) -> str:
    """What MetaSchedule's best kernel after so many measurements is called."""
    return f"metaschedule-{budget}"


def _done(worker: Worker, function: Any, *args: Any) -> Any:
    """The result of a job; `RuntimeError` if it fails, `DeviceError` if there is no device."""
    outcome = worker.call(function, *args, limit=JOB_LIMIT)
    if isinstance(outcome.value, jobs.Unreachable):
        raise DeviceError(outcome.value.message)
    if outcome.failure or isinstance(outcome.value, jobs.Failure):
        raise RuntimeError(outcome.message or outcome.value.message)
    return outcome.value


class CuDNN:
    """PyTorch's eager calls and their kernels alone, about so many milliseconds each."""

    def __init__(self, torch: Torch, milliseconds: float) -> None:
        self._torch, self._milliseconds = torch, milliseconds
        self._implementations: dict[str, str] = {}

    def kernels(self, network: str, layer: str) -> Sequence[str]:
        """All that PyTorch is timed by."""
        return (*EAGER, *KERNELS)

    def turns(self, network: str, layer: str) -> Generator[dict[str, float]]:
        """Ask PyTorch once a turn.

        **Raises:** `RuntimeError` if its process ends meanwhile.
        """
        workload = networks.layer(network, layer).workload
        while True:
            answer: Mapping[str, Mapping[str, Any]] = self._torch.measure(workload, milliseconds=self._milliseconds)
            self._implementations = {name: each["implementation"] for name, each in answer.items() if "implementation" in each}
            yield {name: workload.flop / each["seconds"] / 1e9 for name, each in answer.items()}

    @property
    def facts(self) -> dict[str, Any]:
        """Versions, and what the last layer's kernels are called."""
        return {"torch": self._torch.versions, "implementations": self._implementations}


def cuda_torch(python: str) -> Torch:
    """The process that times PyTorch on a GPU; `ValueError` if it cannot."""
    return Torch(python, torch_cuda_convolution.__file__, needed=("cuda", "a GPU that it can use"))
