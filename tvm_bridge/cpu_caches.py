"""The data caches of this machine's cores, as far as Linux tells of them."""

from __future__ import annotations

from pathlib import Path

CPU = Path("/sys/devices/system/cpu/cpu0")


def caches(threads: int, cpu: Path = CPU) -> dict[int, int]:
    """Bytes of data that so many threads, on cores of their own, can hold together in the caches of each level, from 1 on.

    A level that nothing is told of ends them: none are known in some containers and on other systems.
    """
    found = {}
    for index in sorted((cpu / "cache").glob("index*")):
        try:
            level, kind, size, sharing = (
                (index / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
            )
            if kind != "Instruction":
                cores = max(1, _count(sharing) // _hardware_threads(cpu))
                found[int(level)] = int(size.removesuffix("K")) * 1024 * -(-threads // cores)
        except (OSError, ValueError):
            continue
    levels = range(1, next(level for level in range(1, len(found) + 2) if level not in found))
    return {level: found[level] for level in levels}


def _hardware_threads(cpu: Path) -> int:
    """How many threads share a core, and its caches with it."""
    siblings = cpu / "topology" / "thread_siblings_list"
    return _count(siblings.read_text()) if siblings.exists() else 1


def _count(ranges: str) -> int:
    """How many numbers a list such as 0-3,8 names."""
    ends = [[int(end) for end in each.split("-")] for each in ranges.split(",")]
    return sum(each[-1] - each[0] + 1 for each in ends)
