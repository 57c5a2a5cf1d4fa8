"""Compiled networks and PyTorch take turns on a device: that all compute the same, and the seconds of every run."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from experiments.torch_networks import TorchForm, TorchNetwork
from tvm_bridge.measure.compiling import TAKEN_IN_TURNS, device_name
from tvm_bridge.measure.device_lock import DeviceLock
from tvm_bridge.network import jobs
from tvm_bridge.network.compile import TOLERANCE, CompiledNetwork
from tvm_bridge.network.running import Running

ROUNDS = 12
"""How often the networks and PyTorch change places."""
TF32_TOLERANCE = 2e-2
"""How far a network's outputs may lie from others, as a share of the largest, where factors are rounded to ten bits."""


class Torch(NamedTuple):
    """PyTorch as it takes part: its interpreter, how many threads it may use, and its forms, of which the first is compared."""

    python: str
    threads: int
    forms: tuple[TorchForm, ...]


def rounds(
    name: str, networks: Mapping[str, CompiledNetwork], torch: Torch | None, runs: int
) -> Generator[tuple[dict[str, list[float]], str]]:
    """Let networks take `ROUNDS` turns after one another, so that each finds the caches as another left them.

    PyTorch finds them as it left them itself: three runs before each of its turns wake its threads, and do not count.

    **Arguments:**

    - `name`: of the network in PyTorch.
    - `networks`: by what they are, "untuned" among them.
    - `torch`: None to leave PyTorch out.
    - `runs`: of a turn.

    **Yields:** the seconds of each one's runs in a round, and the device's name.

    **Raises:** `RuntimeError` before any turn if the outputs of one differ from PyTorch's, or without it from the untuned
    network's; `ValueError` as `TorchNetwork` does, `DeviceError` if the device is not here.
    """
    kind, first = networks["untuned"].target.kind, [3] * len(networks)
    with ExitStack() as stack:
        running = stack.enter_context(Running(list(networks.values())))
        others = {str(form): stack.enter_context(each) for form, each in _started(name, kind, torch)}
        data = jobs.random_inputs(networks["untuned"].inputs)[0]
        outputs = dict(zip(networks, running.call(jobs.results), strict=True))
        outputs |= {what: each.output(data) for what, each in others.items()}
        _compare(name, outputs, {str(form) for form in torch.forms if form.tf32} if torch else set())
        if kind in TAKEN_IN_TURNS:
            stack.enter_context(DeviceLock(device_name(kind)))
        running.call(jobs.latencies, first)  # the first runs wake threads and fill caches
        for turn in range(ROUNDS):
            seconds = {}
            for place, what in enumerate(networks):
                counts = [runs if other == what else 0 for other in networks]
                measured, device = running.call(jobs.latencies, counts)
                seconds[what] = measured[place]
            for what, each in others.items():
                each.seconds(3)
                seconds[what] = each.seconds(runs)
            yield seconds, device
            print(f"{name}: {turn + 1} of {ROUNDS} rounds of latencies", flush=True)


def _started(name: str, kind: str, torch: Torch | None) -> Iterator[tuple[TorchForm, TorchNetwork]]:
    """The network in PyTorch, a process for each form."""
    if torch is None:
        return
    device = "cpu" if kind == "llvm" else kind
    for form in torch.forms:
        yield form, TorchNetwork(torch.python, name, threads=torch.threads, device=device, form=form)


def _compare(name: str, outputs: Mapping[str, np.ndarray], rounded: set[str]) -> None:
    """See that all outputs are those of PyTorch's first form, or of the untuned network."""
    reference = next((what for what in outputs if what.startswith("pytorch")), "untuned")
    expected = outputs[reference]
    for what, output in outputs.items():
        if what != reference:
            apart = np.abs(output - expected).max() / np.abs(expected).max()
            if not apart <= (TF32_TOLERANCE if what in rounded else TOLERANCE):
                raise RuntimeError(f"{name}: {what} differs from {reference} by {apart:.2g} of the largest output.")
            print(f"{name}: {what} agrees with {reference} to {apart:.1g}", flush=True)
