"""What a machine can do at most, measured: fused multiply-adds, and bytes read from each level of its memory.

A roofline (Williams, Waterman and Patterson, "Roofline", CACM 2009) with the same number of threads as the kernels have.
Kernels are timed on data that the run before has left in the caches, so what bounds a layer is the smallest level that holds
its data, weights and result together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tvm

from tvm_bridge.build import compiled
from tvm_bridge.cpu_caches import caches
from tvm_bridge.target import Target
from tvm_bridge.templates.cpu import VectorUnit

if TYPE_CHECKING:
    from tvm_bridge.workload import Workload

TILE = (6, 2)
"""Numbers broadcast and vectors loaded for the accumulators of the peak: 12 hide its latency and fit into 16 registers."""
SHORT = 4096
"""Bytes read for the peak, which stay in any first-level cache."""
LONG = 1 << 26
"""Bytes read at least, for a bandwidth: some milliseconds' worth; from memory four times the last cache, if that is more."""


@dataclass(frozen=True)
class Level:
    """A level of the memory: bytes that it holds for all threads, None for the main memory; its bandwidth in GB/s."""

    name: str
    capacity: int | None
    bandwidth: float


@dataclass(frozen=True)
class Peaks:
    """The most that `threads` threads can do: GFLOPS, and the levels of memory from the smallest to the largest."""

    threads: int
    gflops: float
    levels: tuple[Level, ...]

    def limit(self, operations: float, size: int) -> tuple[float, str]:
        """GFLOPS that so many operations on so many bytes as a rule do not pass, and what stops them: "FMA" or a level's name.

        An algorithm that does with fewer operations than are counted for it can pass them.
        """
        level = next(level for level in self.levels if level.capacity is None or size <= level.capacity)
        return min((self.gflops, "FMA"), (operations / size * level.bandwidth, level.name))

    @classmethod
    def of(cls, line: dict[str, Any]) -> Peaks:
        """Peaks as `dataclasses.asdict` and a log have kept them."""
        return cls(line["threads"], line["gflops"], tuple(Level(**level) for level in line["levels"]))


def traffic(workload: Workload) -> int:
    """Bytes of a float32 workload's data, weights and result, each counted once."""
    return 4 * sum(math.prod(shape) for shape in workload.shapes)


def measure(target: Target) -> Peaks:
    """Measure this machine, in a process whose `TVM_NUM_THREADS` is the target's number of threads.

    Each peak is the best of many runs of some milliseconds: what the machine can do when nobody disturbs it.
    """
    threads = target.threads
    sizes = {level: size for level, size in caches(threads).items() if level > 1}
    levels = [Level(f"L{level}", size, _bandwidth(target, size // 2)) for level, size in sizes.items()]
    memory = Level("memory", None, _bandwidth(target, max(LONG, 4 * max(sizes.values(), default=0))))
    return Peaks(threads, _peak(target), (*levels, memory))


def _peak(target: Target) -> float:
    """GFLOPS of fused multiply-adds between registers: each vector is loaded once, each broadcast number used twice."""
    from tvm import te

    lanes, (rows, columns) = VectorUnit.of(target).lanes, TILE
    steps, rounds = SHORT // 4 // rows, 4096
    numbers, vectors = te.placeholder((steps, rows), name="numbers"), te.placeholder((columns, lanes), name="vectors")
    again, step = te.reduce_axis((0, rounds), name="again"), te.reduce_axis((0, steps), name="step")
    sums = te.compute(
        (target.threads, rows, columns, lanes),
        lambda _, row, column, lane: te.sum(numbers[step, row] * vectors[column, lane], axis=[again, step]),
        name="sums",
    )
    flop = 2 * target.threads * rows * columns * lanes * steps * rounds
    return flop / _seconds(_scheduled([numbers, vectors, sums]), target) / 1e9


def _bandwidth(target: Target, size: int) -> float:
    """GB/s of reading `size` bytes over and over, a part for each thread."""
    from tvm import te

    lanes, accumulators = VectorUnit.of(target).lanes, 8
    steps = size // (4 * target.threads * accumulators * lanes)
    rounds = -(-LONG // size)
    data = te.placeholder((target.threads, steps, accumulators, lanes), name="data")
    again, step = te.reduce_axis((0, rounds), name="again"), te.reduce_axis((0, steps), name="step")
    sums = te.compute(
        (target.threads, accumulators, lanes),
        lambda thread, vector, lane: te.sum(data[thread, step, vector, lane], axis=[again, step]),
        name="sums",
    )
    read = 4 * target.threads * steps * accumulators * lanes * rounds
    return read / _seconds(_scheduled([data, sums]), target) / 1e9


def _scheduled(tensors: list[Any]) -> Any:
    """A function that sums: its first loop parallel, its sums in registers, its last loop a vector."""
    from tvm import s_tir, te

    schedule = s_tir.Schedule(te.create_prim_func(tensors))
    block = schedule.get_sblock("sums")
    write_back = schedule.cache_write(block, 0, "global")
    thread, *tile, again, step = schedule.get_loops(block)
    schedule.reorder(thread, again, step, *tile)
    schedule.parallel(thread)
    for loop in tile[:-1]:
        schedule.unroll(loop)
    schedule.vectorize(tile[-1])
    schedule.reverse_compute_at(write_back, thread)
    schedule.vectorize(schedule.get_loops(write_back)[-1])
    schedule.decompose_reduction(block, again)
    return schedule.mod["main"]


def _seconds(function: Any, target: Target) -> float:
    """The least seconds of a run."""
    import numpy as np

    device = tvm.cpu()
    shapes = [[int(extent) for extent in buffer.shape] for buffer in function.params]
    generator = np.random.default_rng(0)
    arguments = [tvm.runtime.tensor(generator.uniform(-1, 1, shape).astype("float32"), device) for shape in shapes]
    return min(
        compiled({"main": function}, target).mod.time_evaluator("main", device, number=1, repeat=200)(*arguments).results
    )
