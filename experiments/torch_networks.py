"""The networks of `tvm_bridge.models` in PyTorch, with the same weights, run by an interpreter of its own that has PyTorch.

`TorchNetwork` starts this file with that interpreter, which needs NumPy beside it and nothing else, or a C++ compiler too where
PyTorch is to compile for a CPU. Each request is a line of JSON, and so is each answer; arrays pass through files.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

MODES = ("default", "max-autotune")
"""How `torch.compile` may compile a network; the second tries kernels, and replays them as a CUDA graph."""


@dataclass(frozen=True)
class TorchForm:
    """A way in which PyTorch runs a network.

    - `mode`: one of `MODES`; None for eager calls.
    - `channels_last`: whether data and weights lie in that order; otherwise they are contiguous.
    - `tf32`: whether a GPU may round the factors of convolutions and products to TF32, ten bits behind the point.
    """

    mode: str | None = None
    channels_last: bool = False
    tf32: bool = False

    def __str__(self) -> str:
        compiled = [] if self.mode is None else ["compiled" if self.mode == "default" else f"compiled with {self.mode}"]
        return ", ".join(["pytorch", *compiled, *["channels last"] * self.channels_last, *["TF32"] * self.tf32])


class TorchNetwork:
    """A network in a process that has PyTorch; a context manager.

    **Arguments:**

    - `python`: the path of an interpreter that has PyTorch and NumPy.
    - `name`, `batch`, `image`, `seed`: of the network, as `tvm_bridge.models.build` takes them.
    - `threads`: how many PyTorch may use.
    - `device`: "cpu", or "cuda" for the first GPU.
    - `form`: how it runs the network. One process has one form: settings and compiled code are PyTorch's, not a network's.

    **Raises:** `ValueError` if there is no such interpreter, it has no PyTorch, or that finds no such device or cannot compile.
    """

    def __init__(
        self,
        python: str,
        name: str,
        *,
        batch: int = 1,
        image: int = 224,
        seed: int = 0,
        threads: int = 1,
        device: str = "cpu",
        form: TorchForm = TorchForm(),
    ) -> None:
        from experiments.interpreter import Interpreter  # here: the other interpreter reads this file too

        self._folder = tempfile.TemporaryDirectory()
        network = {"name": name, "batch": batch, "image": image, "seed": seed}
        settings = {**network, "threads": threads, "device": device, **asdict(form)}
        try:
            self._process = Interpreter(python, __file__, json.dumps(settings), self._folder.name)
            told = self._process.answer()
        except (OSError, RuntimeError) as error:
            self._folder.cleanup()
            raise ValueError(f"python: {python} cannot run {name} in PyTorch: {error}.") from error
        self.version: str = told["torch"]
        self.device: str = told["device"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.close()
        self._folder.cleanup()

    def output(self, data: np.ndarray) -> np.ndarray:
        """The network's output for images (batch, 3, image, image), float32."""
        np.save(Path(self._folder.name) / "data.npy", data)
        self._process.ask({"runs": 0})
        return np.load(Path(self._folder.name) / "output.npy")

    def seconds(self, runs: int) -> list[float]:
        """The latency of each of so many runs, one after another, of the last data or of noise."""
        return self._process.ask({"runs": runs})


def torch_network(nodes: Sequence[Any], seed: int, channels_last: bool = False, device: str = "cpu") -> Callable[[Any], Any]:
    """A network as a function of a tensor (N, 3, H, W) on a device, from what `tvm_bridge.models.nodes` wrote down."""
    import torch
    from torch.nn import functional

    from tvm_bridge.models.weights import draw

    weights = {node: {name: torch.from_numpy(each).to(device) for name, each in draw(node, seed).items()} for node in nodes}
    if channels_last:
        for node in nodes:
            if node.operator == "conv":
                weights[node]["weight"] = weights[node]["weight"].contiguous(memory_format=torch.channels_last)

    def conv(node, data):
        options = node.options
        geometry = options["stride"], options["padding"], 1, options["groups"]
        return functional.conv2d(data, weights[node]["weight"], weights[node].get("bias"), *geometry)

    def batch_norm(node, data):
        scale, shift, mean, variance = (weights[node][name] for name in ("scale", "shift", "mean", "variance"))
        return functional.batch_norm(data, mean, variance, scale, shift, eps=1e-5)

    def max_pool(node, data):
        return functional.max_pool2d(data, node.options["size"], node.options["stride"], node.options["padding"])

    operators: dict[str, Callable[..., Any]] = {
        "conv": conv,
        "batch_norm": batch_norm,
        "max_pool": max_pool,
        "relu": lambda node, data: torch.relu(data),
        "global_pool": lambda node, data: functional.adaptive_avg_pool2d(data, 1),
        "dense": lambda node, data: functional.linear(data, weights[node]["weight"], weights[node]["bias"]),
        "add": lambda node, left, right: left + right,
        "concat": lambda node, *parts: torch.cat(parts, 1),
        "flatten": lambda node, data: data.flatten(1),
        "softmax": lambda node, data: torch.softmax(data, 1),
    }

    def run(data):
        results = {nodes[0]: data}
        for node in nodes[1:]:
            results[node] = operators[node.operator](node, *(results[each] for each in node.inputs))
        return results[nodes[-1]]

    return run


def serve(settings: dict[str, Any], folder: Path, requests: Iterator[str]) -> Iterator[Any]:
    """The answers to requests: PyTorch's version and its device first, then the seconds of the runs of each request.

    A run is over when the device has done it. What an earlier request had as data stays; there is an output file after one run
    at least.
    """
    import torch

    # The package itself would import TVM, which this interpreter does not have; of it only the models are needed.
    package = types.ModuleType("tvm_bridge")
    package.__path__ = [str(Path(__file__).parents[1] / "tvm_bridge")]
    sys.modules.setdefault("tvm_bridge", package)
    from tvm_bridge import models

    torch.set_num_threads(settings["threads"])
    device, form = settings["device"], TorchForm(settings["mode"], settings["channels_last"], settings["tf32"])
    if device == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError("PyTorch finds no GPU here; run it where there is one, or without --target cuda")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = form.tf32
        torch.backends.cudnn.benchmark = True  # of its algorithms the fastest for these shapes, found by the first run
    nodes = models.nodes(settings["name"], batch=settings["batch"], image=settings["image"])
    layout = torch.channels_last if form.channels_last else torch.contiguous_format
    network = torch_network(nodes, settings["seed"], form.channels_last, device)
    data = torch.randn(nodes[0].shape).to(device).contiguous(memory_format=layout)
    if form.mode is not None:  # traced: how it is written down is Python that need not be compiled
        network = torch.compile(torch.fx.symbolic_trace(network), mode=form.mode, fullgraph=True)
        with torch.inference_mode():
            network(data)
    yield {"torch": torch.__version__, "device": torch.cuda.get_device_name() if device == "cuda" else device}
    for line in requests:
        runs, given = json.loads(line)["runs"], folder / "data.npy"
        if given.exists():
            data = torch.from_numpy(np.load(given)).to(device).contiguous(memory_format=layout)
            given.unlink()
        seconds = []
        with torch.inference_mode():
            for _ in range(runs):
                _finish(device)
                start = time.perf_counter()
                network(data)
                _finish(device)
                seconds.append(time.perf_counter() - start)
            if not runs:
                np.save(folder / "output.npy", network(data).cpu().numpy())
        yield seconds


def _finish(device: str) -> None:
    """Wait until the device has done what it was told; a CPU has."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what compilers print is no answer
    for answer in serve(json.loads(sys.argv[1]), Path(sys.argv[2]), iter(sys.stdin)):
        print(json.dumps(answer), file=answers, flush=True)
