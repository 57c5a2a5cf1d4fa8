"""A layer's space with a throughput that is known, and a way to watch a method search it."""

import jax
import numpy as np

from search import KnobSpace, Option, Source, Split


def fits(choice):
    return choice["tile"][..., 2] * choice["lane"][..., 1] <= 256


def layer(extent=64):
    """Two splits and an option, with a limit on the threads."""
    return KnobSpace([Split("tile", extent, 4), Split("lane", extent, 2), Option("unroll", (0, 512, 1500))], fits)


def gflops(space, knobs):
    """Best at 32 threads of 4 outputs each; with fewer than 2 threads it fails."""
    choice = space.choice(knobs)
    threads, work = (np.log2(choice["tile"][:, axis] * choice["lane"][:, 1]) for axis in (2, 3))
    speed = 100 * np.exp(-0.15 * (threads - 5) ** 2 - 0.1 * (work - 2) ** 2 - 0.1 * np.log2(choice["tile"][:, 1]))
    return np.where(threads < 1, 0.0, speed * (1 + (choice["unroll"] > 0)))


def measured(extent, count=150, seed=0):
    """Another layer's measurements."""
    space = layer(extent)
    knobs = space.sample(jax.random.key(seed), count)
    return Source(f"layer {extent}", space, knobs, gflops(space, knobs))


def watch(search, space, trials, throughput=gflops):
    """The batches that a method proposes, until `trials` are measured or it ends, and what it was told of each."""
    batches, told = [], []
    try:
        batch = next(search)
        while True:
            batches.append(batch)
            told.append(throughput(space, batch))
            if sum(map(len, batches)) >= trials:
                break
            batch = search.send(told[-1])
    except StopIteration:
        pass
    search.close()
    return batches, told
