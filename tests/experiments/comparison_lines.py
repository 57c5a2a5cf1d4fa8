"""Lines as the comparison of CPU kernels logs them."""

from experiments.kernel_comparison import OURS
from experiments.roofline import Level, Peaks

PEAKS = Peaks(2, 200.0, (Level("memory", None, 10.0),))


def line(layer: str, group: str = "dense", **times: list) -> dict:
    times = {"ours": [0.01, 0.02, 0.9], "untuned": []} | times
    return {
        **{"layer": layer, "group": group, "threads": 2, "device": "a CPU, 2 threads", "operations": 2e9, "bytes": 10**8},
        **{"times": times, "torch": "2.0"},
        "kernels": {name: {"algorithm": "direct", "index": 1, "config": {}} for name in OURS if name in times},
        "implementations": {"onednn": "jit:a", "onednn_channels_last": "brg:b"},
        "tuning": {"ours": [256, 100.0], "metaschedule": [256, 200.0]},
    }
