"""What Linux tells of a CPU's caches is counted for so many threads, and what it does not tell is no error."""

import pytest

from tvm_bridge.cpu_caches import caches

L1, L2, L3 = 32 << 10, 1 << 20, 8 << 20


@pytest.fixture
def system(tmp_path):
    """Makes what Linux tells of a CPU whose second level, and whose third, are shared by such hardware threads."""

    def system(second, third, siblings=None):
        values = [
            (1, "Data", "32K", siblings or "0"),
            (1, "Instruction", "64K", siblings or "0"),
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
    assert caches(1, cpu) == {1: L1, 2: L2, 3: L3}
    assert caches(4, cpu) == {1: 4 * L1, 2: 4 * L2, 3: L3}
    assert caches(5, cpu) == {1: 5 * L1, 2: 5 * L2, 3: 2 * L3}


def test_hardware_threads_of_a_core_count_as_one(system):
    cpu = system("0,4", "0-7", "0,4")
    assert caches(4, cpu) == {1: 4 * L1, 2: 4 * L2, 3: L3}
    assert caches(5, cpu) == {1: 5 * L1, 2: 5 * L2, 3: 2 * L3}


@pytest.mark.parametrize(
    ("damaged", "known"), [("index2/size", {1: L1}), ("index0/level", {}), ("index3/shared_cpu_list", {1: L1, 2: L2})]
)
def test_levels_end_where_one_is_not_told(system, damaged, known):
    cpu = system("0", "0-3")
    (cpu / "cache" / damaged).write_text("\n")
    assert caches(1, cpu) == known
    (cpu / "cache" / damaged).unlink()
    assert caches(1, cpu) == known


def test_a_system_that_tells_nothing_has_no_known_caches(tmp_path):
    assert caches(2, tmp_path) == {}
