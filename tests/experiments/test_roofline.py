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


@pytest.fixture
def system(tmp_path):
    """Makes what Linux tells of a CPU whose second level, and whose third, are shared by such hardware threads."""

    def system(second, third, siblings=None):
        values = [
            (1, "Data", "32K", "0"),
            (1, "Instruction", "32K", "0"),
            (2, "Unified", "1024K", second),
            (3, "Unified", "8192K", third),
        ]
        files = {
            f"cache/index{number}/{name}": value
            for number, row in enumerate(values)
            for name, value in zip(("level", "type", "size", "shared_cpu_list"), row, strict=True)
        }
        for name, value in (files | ({"topology/thread_siblings_list": siblings} if siblings else {})).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{value}\n")
        return tmp_path

    return system


@pytest.mark.parametrize("siblings", [None, "0"])
def test_private_caches_add_up_and_shared_ones_do_not(system, siblings):
    cpu = system("0", "0-2,4", siblings)
    assert caches(4, cpu) == {"L2": 4 << 20, "L3": 8 << 20}
    assert caches(5, cpu) == {"L2": 5 << 20, "L3": 16 << 20}


def test_hardware_threads_of_a_core_count_as_one(system):
    cpu = system("0,4", "0-7", "0,4")
    assert caches(4, cpu) == {"L2": 4 << 20, "L3": 8 << 20}
    assert caches(5, cpu) == {"L2": 5 << 20, "L3": 16 << 20}
