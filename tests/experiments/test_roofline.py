"""A limit is what stops first: arithmetic, or the smallest level of memory that holds a layer."""

from dataclasses import asdict

import pytest

from experiments.roofline import Level, Peaks, traffic
from tvm_bridge.convolution import Conv2d

PEAKS = Peaks(2, 200.0, (Level("L2", 1000, 100.0), Level("L3", 4000, 40.0), Level("memory", None, 10.0)))


@pytest.mark.parametrize(
    ("operations", "size", "limit"),
    [
        (1000, 1000, (100.0, "L2")),
        (3000, 1000, (200.0, "FMA")),
        (3000, 1001, (40.0 * 3000 / 1001, "L3")),
        (4001, 4001, (10.0, "memory")),
    ],
)
def test_the_limit_is_the_least_of_arithmetic_and_memory(operations, size, limit):
    assert PEAKS.limit(operations, size) == (pytest.approx(limit[0]), limit[1])


def test_peaks_survive_a_log():
    assert Peaks.of(asdict(PEAKS)) == PEAKS


def test_traffic_counts_data_weights_and_result_once():
    assert traffic(Conv2d((1, 2, 5, 5), (3, 2, 3, 3))) == 4 * (50 + 54 + 27)
