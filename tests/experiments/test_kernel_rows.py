"""A row is arithmetic on a line of the log: medians, ratios to the faster of oneDNN's kernels, geometric means, shares."""

import pytest

from experiments.kernel_rows import Row, grouped, means
from tests.experiments.comparison_lines import PEAKS, line


def test_a_row_has_medians_and_the_faster_of_two_kernels():
    row = Row.of(line("net a", torch=[0.04], onednn=[0.02], onednn_channels_last=[0.01])).below(PEAKS)
    assert row.gflops == {"ours": 100.0, "torch": 50.0, "onednn": 200.0}
    assert row.kernel == "brg:b (channels last)"
    assert (row.limit, row.bound, row.share) == (200.0, "FMA", 0.5)
    assert (row.ratio("torch"), row.ratio("onednn"), row.ratio("metaschedule")) == (2.0, 0.5, None)
    assert row.ratio("torch", "onednn", "metaschedule") == 0.5


def test_the_faster_of_our_layouts_counts():
    row = Row.of(line("net a", ours_channels_last=[0.01], onednn=[0.02]))
    assert row.gflops == {"ours": 200.0, "onednn": 100.0}
    assert row.algorithm == "direct (channels last)"
    assert Row.of(line("net a", ours_channels_last=[0.04])).algorithm == "direct"


def test_what_was_not_measured_or_does_not_exist_is_left_out():
    row = Row.of(line("net a", onednn=[None, None]))
    assert row.gflops == {"ours": 100.0}
    assert (row.kernel, row.limit, row.share) == ("", None, None)


def test_means_are_geometric_by_kind_and_by_network():
    rows = [
        Row.of(line("net a", onednn=[0.02])),
        Row.of(line("net b", "pointwise", onednn=[0.08])),
        Row.of(line("other c", "depthwise", onednn=[0.01])),
    ]
    expected = {
        "dense": 1,
        "pointwise": 4,
        "dense and pointwise": 2,
        "depthwise": 0.5,
        "all": 2 ** (1 / 3),
        "net": 2,
        "other": 0.5,
    }
    assert {name: means(group)["oneDNN"] for name, group in grouped(rows).items()} == pytest.approx(expected)
    assert "depthwise" not in grouped(rows[:1])
    assert means([Row.of(line("net a"))]) == {}
