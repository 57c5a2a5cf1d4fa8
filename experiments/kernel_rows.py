"""Layers as rows of the comparison of CPU kernels: everybody's throughput, and what a group of layers has in the mean."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from experiments.kernel_comparison import OURS
from experiments.roofline import Peaks
from experiments.torch_convolution import KERNELS

OTHERS = {
    "metaschedule": "MetaSchedule",
    "torch": "PyTorch",
    "torch_channels_last": "PyTorch channels last",
    "onednn": "oneDNN",
}
MULTIPLES = {
    "MetaSchedule": ("metaschedule",),
    "PyTorch": ("torch", "torch_channels_last"),
    "oneDNN": ("onednn",),
    "untuned": ("untuned",),
}
"""What groups of layers are compared with: the fastest of these."""

_GROUPS = {
    "dense": ("dense",),
    "pointwise": ("pointwise",),
    "dense and pointwise": ("dense", "pointwise"),
    "depthwise": ("depthwise",),
    "all": ("dense", "pointwise", "depthwise"),
}


@dataclass(frozen=True)
class Row:
    """A layer: everybody's GFLOPS by median, counting the direct algorithm's operations.

    Of oneDNN it is the faster of two kernels, that for the layout of its own choice and that for channels last; `kernel` is its
    name. Of ours it is the faster one, too: that for NCHW or that for channels last, by `algorithm`. `tuning` has the
    measurements and the seconds of both tunings, `torch` PyTorch's version. `limit` is the roofline, by `bound`; None where the
    machine's peaks are not known.
    """

    layer: str
    group: str
    algorithm: str
    gflops: dict[str, float]
    kernel: str
    operations: int
    bytes: int
    tuning: dict[str, list[float | None]]
    torch: str | None
    limit: float | None = None
    bound: str = ""

    @classmethod
    def of(cls, line: Mapping) -> Row:
        """The row of a line of the comparison's log."""
        gflops = {
            name: line["operations"] / statistics.median(turns) / 1e9
            for name, turns in line["times"].items()
            if turns and None not in turns
        }
        ours, algorithm = _fastest(gflops, OURS, {name: kernel["algorithm"] for name, kernel in line["kernels"].items()})
        onednn, kernel = _fastest(gflops, KERNELS, line["implementations"])
        others = {name: speed for name, speed in gflops.items() if name not in (*OURS, *KERNELS)}
        return cls(
            line["layer"],
            line["group"],
            algorithm,
            {"ours": ours} | others | ({"onednn": onednn} if onednn else {}),
            kernel,
            line["operations"],
            line["bytes"],
            line["tuning"],
            line["torch"],
        )

    def below(self, peaks: Peaks | None) -> Row:
        """The row with the limit that a machine's peaks set."""
        limit, bound = peaks.limit(self.operations, self.bytes) if peaks else (None, "")
        return replace(self, limit=limit, bound=bound)

    @property
    def network(self) -> str:
        """The first word of the layer's name."""
        return self.layer.partition(" ")[0]

    def ratio(self, *others: str) -> float | None:
        """Our throughput as a multiple of the fastest of some others; None where there is none of them."""
        speeds = [self.gflops[other] for other in others if other in self.gflops]
        return self.gflops["ours"] / max(speeds) if speeds else None

    @property
    def share(self) -> float | None:
        """The share of the limit that ours reaches."""
        return self.gflops["ours"] / self.limit if self.limit else None

    def __str__(self) -> str:
        return f"{self.layer}: " + ", ".join(f"{name} {speed:.0f}" for name, speed in self.gflops.items()) + " GFLOPS"


def _fastest(gflops: Mapping[str, float], names: Sequence[str], called: Mapping[str, str]) -> tuple[float, str]:
    """The throughput of the fastest kernel of some, and what it is called, with its layout; 0 and nothing if there is none."""
    name = max(gflops.keys() & names, key=lambda name: gflops[name], default=None)
    if name is None:
        return 0.0, ""
    return gflops[name], called.get(name, "") + (" (channels last)" if name.endswith("channels_last") else "")


def grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by kind of convolution and by network, each row in several groups; none of them is empty."""
    groups = {name: [row for row in rows if row.group in kinds] for name, kinds in _GROUPS.items()}
    groups |= {
        network: [row for row in rows if row.network == network] for network in dict.fromkeys(row.network for row in rows)
    }
    return {name: group for name, group in groups.items() if group}


def ratios(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Ours as multiples of others' throughput, and as shares of the limit, without the layers that lack it."""
    columns = {name: [row.ratio(*others) for row in rows] for name, others in MULTIPLES.items()}
    columns["share of the limit"] = [row.share for row in rows]
    return {column: [value for value in values if value is not None] for column, values in columns.items()}


def means(rows: Sequence[Row]) -> dict[str, float]:
    """Their geometric means."""
    return {column: statistics.geometric_mean(values) for column, values in ratios(rows).items() if values}
