"""PyTorch's convolution and oneDNN's kernel inside it, timed by an interpreter of its own that has PyTorch.

`Torch` starts this file with that interpreter and asks it. Each request is a line of JSON with the fields of `measure`, each
answer a line with its result; the first line tells the versions. Eager calls are timed whole, as users make them. oneDNN's
kernel is what its verbose mode says of the convolution alone, without the layout changes around it, which take cache from it
all the same; it is called for layers too that PyTorch would give to another library.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, Self

EAGER = ("torch", "torch_channels_last")
KERNELS = ("onednn", "onednn_channels_last")
"""What is timed: the call and the kernel, of data and weights as PyTorch makes them (NCHW), and of both in channels last."""


class Torch:
    """The process that times PyTorch; a context manager.

    **Arguments:**

    - `python`: the path of an interpreter that has PyTorch.
    - `program`: the file that it runs: this one, or another whose first line of output says what its PyTorch has.
    - `needed`: what PyTorch must have, as that line calls it, and in words.

    **Attributes:**

    - `versions`: that line.

    **Raises:** `ValueError` if it cannot be started or has no PyTorch with what is needed.
    """

    def __init__(self, python: str, program: str = __file__, needed: tuple[str, str] = ("onednn", "oneDNN")) -> None:
        self._python, self._program, self._needed = python, program, needed
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def measure(self, workload: Any, **timing: float) -> dict[str, dict[str, Any]]:
        """Time a `Conv2d`: the answer of the program's function `measure`, which takes the rest as `timing`.

        **Raises:** `RuntimeError` if the process ends meanwhile; the next call starts another.
        """
        if not self._process.alive:
            self.close()
            self._start()
        request = {name: getattr(workload, name) for name in ("data", "weight", "stride", "padding", "dilation", "groups")}
        return self._process.ask(request | timing)

    def _start(self) -> None:
        from experiments.interpreter import Interpreter  # here: the other interpreter reads this file too

        try:
            self._process = Interpreter(self._python, self._program)
        except OSError as error:
            raise ValueError(f"--torch-python: {self._python} cannot be started: {error}.") from error
        try:
            self.versions: dict[str, Any] = self._process.answer()
        except RuntimeError as error:
            raise ValueError(f"--torch-python: {self._python} cannot import PyTorch; name one that can.") from error
        name, words = self._needed
        if not self.versions[name]:
            self.close()
            raise ValueError(f"--torch-python: {self._python} has a PyTorch without {words}; name another.")

    @property
    def version(self) -> str:
        """PyTorch's."""
        return self.versions["torch"]


def kernel(verbose: str) -> dict[str, Any] | None:
    """The convolutions in oneDNN's verbose lines: seconds of one, and the implementation; None without any.

    The time is the mean of the middle half, which is as robust as a median: oneDNN's clock has steps of a microsecond.
    """
    milliseconds, implementation = [], ""
    for line in verbose.splitlines():
        fields = line.split(",")
        if fields[0] in ("onednn_verbose", "dnnl_verbose") and "exec" in fields:
            _, _, primitive, name = fields[fields.index("exec") :][:4]
            if primitive == "convolution":
                milliseconds.append(float(fields[-1]))
                implementation = name
    if not milliseconds:
        return None
    count, quarter = len(milliseconds), (len(milliseconds) - 1) // 4
    seconds = statistics.mean(sorted(milliseconds)[quarter : count - quarter]) / 1e3
    return {"seconds": seconds, "implementation": implementation}


def serve() -> None:
    """Answer requests until the input ends; what oneDNN prints goes to a file."""
    import torch

    answers = os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryFile("w+") as printed:
        os.dup2(printed.fileno(), 1)
        print(
            json.dumps({"torch": torch.__version__, "onednn": torch.backends.mkldnn.is_available()}), file=answers, flush=True
        )
        for line in sys.stdin:
            with torch.inference_mode():
                print(json.dumps(measure(printed, **json.loads(line))), file=answers, flush=True)


def measure(printed: IO[str], *, data, weight, stride, padding, dilation, groups, threads, seconds) -> dict[str, Any]:
    """Time a convolution: for each of `EAGER` the seconds of a call, for each of `KERNELS` those of oneDNN's kernel.

    Each takes about `seconds` seconds and nine calls at least. A kernel that oneDNN does not have is None.
    """
    import torch

    torch.set_num_threads(threads)
    top, left, bottom, right = padding
    if (top, left) != (bottom, right):
        raise ValueError(f"padding: {padding} is not symmetric, and PyTorch pads that in a pass of its own.")
    plain = torch.rand(data) - 0.5, torch.rand(weight) - 0.5
    last = tuple(tensor.contiguous(memory_format=torch.channels_last) for tensor in plain)

    def eager(tensors):
        return lambda: torch.nn.functional.conv2d(*tensors, None, stride, (top, left), dilation, groups)

    def direct(tensors):
        return lambda: torch.mkldnn_convolution(*tensors, None, (top, left), stride, dilation, groups)

    answer: dict[str, Any] = {
        name: {"seconds": _seconds(eager(tensors), seconds)} for name, tensors in zip(EAGER, (plain, last), strict=True)
    }
    for name, tensors in zip(KERNELS, (plain, last), strict=True):
        call = direct(tensors)
        call()  # makes the primitive
        with _reading(printed) as read, torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            _seconds(call, seconds)
        answer[name] = kernel(read())
    return answer


def _seconds(call: Callable[[], Any], seconds: float) -> float:
    """The median seconds of one call, after one to warm up."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 9:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@contextlib.contextmanager
def _reading(printed: IO[str]) -> Iterator[Callable[[], str]]:
    """Empty the file that standard output is, and afterwards give what C's buffers and programs have written."""
    flush = ctypes.CDLL(None).fflush
    flush(None)
    printed.seek(0)
    printed.truncate()
    text = ""
    yield lambda: text
    flush(None)
    printed.seek(0)
    text = printed.read()


if __name__ == "__main__":
    serve()
