"""A limit is what stops first: arithmetic, or the smallest level of memory that holds a layer."""

from dataclasses import asdict

import pytest

from experiments.roofline import Level, Peaks, caches, traffic
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


def test_private_caches_add_up_and_shared_ones_do_not(tmp_path):
    system = [
        (1, "Data", "32K", "0"),
        (1, "Instruction", "32K", "0"),
        (2, "Unified", "1024K", "0"),
        (3, "Unified", "8192K", "0-2,4"),
    ]
    for number, values in enumerate(system):
        (tmp_path / f"index{number}").mkdir()
        for name, value in zip(("level", "type", "size", "shared_cpu_list"), values, strict=True):
            (tmp_path / f"index{number}" / name).write_text(f"{value}\n")
    assert caches(4, tmp_path) == {"L2": 4 << 20, "L3": 8 << 20}
    assert caches(5, tmp_path) == {"L2": 5 << 20, "L3": 16 << 20}
