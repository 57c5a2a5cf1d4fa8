"""The networks of `tvm_bridge.models` in PyTorch, with the same weights, run by an interpreter of its own that has PyTorch.

`TorchNetwork` starts this file with that interpreter, which needs NumPy beside it and nothing else. Each request is a line of
JSON, and so is each answer; arrays pass through files.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np


class TorchNetwork:
    """A network in a process that has PyTorch; a context manager.

    **Arguments:**

    - `python`: the path of an interpreter that has PyTorch and NumPy.
    - `name`, `batch`, `image`, `seed`: of the network, as `tvm_bridge.models.build` takes them.
    - `threads`: how many PyTorch may use.
    - `channels_last`: whether data and weights lie in that order; otherwise they are contiguous.

    **Raises:** `ValueError` if there is no such interpreter, or it has no PyTorch.
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
        channels_last: bool = False,
    ) -> None:
        from experiments.interpreter import Interpreter  # here: the other interpreter reads this file too

        self._folder = tempfile.TemporaryDirectory()
        settings = {
            "name": name,
            "batch": batch,
            "image": image,
            "seed": seed,
            "threads": threads,
            "channels_last": channels_last,
        }
        try:
            self._process = Interpreter(python, __file__, json.dumps(settings), self._folder.name)
            self.version: str = self._process.answer()
        except (OSError, RuntimeError) as error:
            self._folder.cleanup()
            raise ValueError(f"python: {python} cannot run {name} in PyTorch: {error}.") from error

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


def torch_network(nodes: Sequence[Any], seed: int, channels_last: bool = False) -> Callable[[Any], Any]:
    """A network as a function of a tensor (N, 3, H, W), from what `tvm_bridge.models.nodes` wrote down."""
    import torch
    from torch.nn import functional

    from tvm_bridge.models.weights import draw

    weights = {node: {name: torch.from_numpy(each) for name, each in draw(node, seed).items()} for node in nodes}
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
    """The answers to requests: PyTorch's version first, then the seconds of the runs of each request.

    What an earlier request had as data stays; there is an output file after one run at least.
    """
    import torch

    # The package itself would import TVM, which this interpreter does not have; of it only the models are needed.
    package = types.ModuleType("tvm_bridge")
    package.__path__ = [str(Path(__file__).parents[1] / "tvm_bridge")]
    sys.modules.setdefault("tvm_bridge", package)
    from tvm_bridge import models

    torch.set_num_threads(settings["threads"])
    nodes = models.nodes(settings["name"], batch=settings["batch"], image=settings["image"])
    layout = torch.channels_last if settings["channels_last"] else torch.contiguous_format
    network = torch_network(nodes, settings["seed"], settings["channels_last"])
    data = torch.randn(nodes[0].shape).contiguous(memory_format=layout)
    yield torch.__version__
    for line in requests:
        runs, given = json.loads(line)["runs"], folder / "data.npy"
        if given.exists():
            data = torch.from_numpy(np.load(given)).contiguous(memory_format=layout)
            given.unlink()
        seconds = []
        with torch.inference_mode():
            for _ in range(runs):
                start = time.perf_counter()
                network(data)
                seconds.append(time.perf_counter() - start)
            if not runs:
                np.save(folder / "output.npy", network(data).numpy())
        yield seconds


if __name__ == "__main__":
    for answer in serve(json.loads(sys.argv[1]), Path(sys.argv[2]), iter(sys.stdin)):
        print(json.dumps(answer), flush=True)
