"""Times PyTorch's convolution (oneDNN on a CPU) for another script, in the interpreter that has PyTorch.

Reads one JSON line a request, `{"data", "weight", "stride", "padding", "dilation", "groups", "threads", "seconds"}`, and
answers each with one line: the median seconds of a call, over repeats that fill about `seconds`.
"""

import json
import statistics
import sys
import time

import torch


def main() -> None:
    """Serve requests until the input ends."""
    print(json.dumps({"torch": torch.__version__, "onednn": torch.backends.mkldnn.is_available()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(**json.loads(line))), flush=True)


@torch.inference_mode()
def timed(*, data, weight, stride, padding, dilation, groups, threads, seconds) -> float:
    """The median seconds of one call, measured in batches of at least 10 ms."""
    torch.set_num_threads(threads)
    x, w = torch.rand(data) - 0.5, torch.rand(weight) - 0.5
    top, left, bottom, right = padding
    if (top, left) != (bottom, right):
        raise ValueError(f"padding: {padding} is not symmetric, and torch pads that in a pass of its own.")

    def call():
        torch.nn.functional.conv2d(x, w, stride=stride, padding=(top, left), dilation=dilation, groups=groups)

    call()
    started = time.perf_counter()
    call()
    number = max(1, round(0.01 / (time.perf_counter() - started)))
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        started = time.perf_counter()
        for _ in range(number):
            call()
        times.append((time.perf_counter() - started) / number)
    return statistics.median(times)


if __name__ == "__main__":
    main()
