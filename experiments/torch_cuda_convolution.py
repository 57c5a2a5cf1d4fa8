"""PyTorch's convolution on a GPU, eager and as its kernels alone, timed by an interpreter of its own that has PyTorch.

`experiments.torch_convolution.Torch` starts this file with that interpreter and asks it. Each request is a line of JSON with
the fields of `measure`, each answer a line with its result; the first line tells the versions.

Float32 with TF32 off and on, cuDNN choosing by its own measurements (`benchmark`). An eager call is timed as users make it, the
next one launched while the one before runs. The kernels alone are a CUDA graph of calls, replayed: no time of Python's or
PyTorch's is in it, only that of the kernels that a call launches, changes of layout among them. Both are timed by CUDA events.
For depthwise convolutions PyTorch may prefer a kernel of its own to cuDNN's: `implementation` has the name.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable
from typing import Any

PRECISIONS = {"": False, "_tf32": True}
LAYOUTS = ("", "_channels_last")
EAGER = tuple(f"torch{precision}{layout}" for precision in PRECISIONS for layout in LAYOUTS)
KERNELS = tuple(f"cudnn{precision}{layout}" for precision in PRECISIONS for layout in LAYOUTS)
"""What is timed: the call and the kernels, TF32 off and on, of data and weights as PyTorch makes them (NCHW) and in channels
last."""
TURNS = 9
"""Times of which the median counts."""


def serve() -> None:
    """Answer requests until the input ends; what libraries print goes to the errors."""
    import torch

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    versions = {"torch": torch.__version__, "cuda": torch.cuda.is_available(), "cudnn": torch.backends.cudnn.version()}
    print(json.dumps(versions), file=answers, flush=True)
    for line in sys.stdin:
        with torch.inference_mode():
            print(json.dumps(measure(**json.loads(line))), file=answers, flush=True)


def measure(*, data, weight, stride, padding, dilation, groups, milliseconds: float) -> dict[str, dict[str, Any]]:
    """Time a convolution: for each of `EAGER` the seconds of a call, for each of `KERNELS` those of its kernels alone.

    Both are the median of `TURNS` times of about `milliseconds` each, after warming up. A kernel has its `implementation`: the
    GPU's name for the longest that the call launches.
    """
    import torch

    top, left, bottom, right = padding
    if (top, left) != (bottom, right):
        raise ValueError(f"padding: {padding} is not symmetric, and PyTorch pads that in a pass of its own.")
    torch.backends.cudnn.benchmark = True
    plain = torch.rand(data, device="cuda") - 0.5, torch.rand(weight, device="cuda") - 0.5
    last = tuple(tensor.contiguous(memory_format=torch.channels_last) for tensor in plain)
    answer: dict[str, dict[str, Any]] = {}
    for precision, allowed in PRECISIONS.items():
        torch.backends.cudnn.allow_tf32 = allowed
        for layout, tensors in zip(LAYOUTS, (plain, last), strict=True):

            def call(tensors: Any = tensors) -> Any:
                return torch.nn.functional.conv2d(*tensors, None, stride, (top, left), dilation, groups)

            _seconds(torch, call, 1)  # cuDNN chooses before anything is timed or captured
            number = max(1, round(milliseconds / 1e3 / _seconds(torch, call, 1)))
            answer[f"torch{precision}{layout}"] = {"seconds": _seconds(torch, call, number)}
            answer[f"cudnn{precision}{layout}"] = {
                "seconds": _replayed(torch, call, number),
                "implementation": _implementation(torch, call),
            }
    return answer


def _seconds(torch: Any, call: Callable[[], Any], number: int) -> float:
    """The median over `TURNS` of the seconds of one of `number` calls in a row, by CUDA events."""
    times = []
    for _ in range(TURNS):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        for _ in range(number):
            call()
        ended.record()
        ended.synchronize()
        times.append(began.elapsed_time(ended) / 1e3 / number)
    return statistics.median(times)


def _replayed(torch: Any, call: Callable[[], Any], number: int) -> float:
    """The same of the kernels that a call launches, `number` calls captured as one CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(number):
            call()
    graph.replay()  # the first one uploads it
    return _seconds(torch, graph.replay, 1) / number


def _implementation(torch: Any, call: Callable[[], Any]) -> str:
    """The name of the kernel that takes longest of those that a call launches; nothing where they cannot be watched."""
    activity = torch.profiler.ProfilerActivity.CUDA
    if activity not in torch.profiler.supported_activities():
        return ""
    with torch.profiler.profile(activities=[activity]) as profile:
        call()
        torch.cuda.synchronize()
    kernels = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return max(kernels, key=lambda event: event.time_range.elapsed_us()).name if kernels else ""


if __name__ == "__main__":
    serve()
