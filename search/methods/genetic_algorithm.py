"""A genetic algorithm over knobs, as AutoTVM's GA tuner (Chen et al., NeurIPS 2018)."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from search.driver import Search
from search.pool import Pool
from search.space import KnobSpace

ATTEMPTS = 32
"""How often a child that cannot be measured mutates once more, before a random configuration takes its place."""


def genetic_algorithm(
    space: KnobSpace, *, key: PRNGKeyArray, population: int = 100, elite: int = 3, mutation: float = 0.1
) -> Search:
    """Generations bred from the fittest, as AutoTVM's GA tuner does (Chen et al., NeurIPS 2018).

    The parents of a generation are the one before it and the `elite` best of all. Two of them are drawn with probabilities
    proportional to their throughput; their child has the first one's knobs up to a random place and the other's from there on,
    then each knob mutates. A child that is known, invalid or another's twin mutates further until it is none of these.

    **Arguments:**

    - `population`: how many are measured at a time.
    - `elite`: how many of the best remain parents.
    - `mutation`: the probability that a knob takes a random option.

    **Raises:** `ValueError` for a number out of range.
    """
    if population < 1:
        raise ValueError(f"population: {population} must be at least 1.")
    if elite < 0:
        raise ValueError(f"elite: {elite} must not be negative.")
    if not 0 <= mutation <= 1:
        raise ValueError(f"mutation: {mutation} must lie in 0 .. 1.")

    def search() -> Search:
        first_key, seed_key, next_key = jax.random.split(key, 3)
        generator = np.random.default_rng(np.asarray(jax.random.key_data(seed_key)))
        generation = space.sample(first_key, population)
        measured = best = generation[:0]
        fitness_of_best = np.empty(0)
        while len(generation):
            throughput = yield generation
            measured = np.concatenate([measured, generation])
            parents, fitness = np.concatenate([generation, best]), np.concatenate([throughput, fitness_of_best])
            fittest = np.argsort(-fitness, kind="stable")[:elite]
            best, fitness_of_best = parents[fittest], fitness[fittest]
            children = _mutated(space, _crossed(parents, fitness, population, generator), mutation, generator)
            next_key, fill_key = jax.random.split(next_key)
            generation = _measurable(space, children, measured, generator)
            missing = population - len(generation)
            fill = space.sample(fill_key, missing, exclude=np.concatenate([measured, generation]))
            generation = np.concatenate([generation, fill])

    return search()


def _crossed(
    parents: Int[np.ndarray, "n knobs"], fitness: Float[np.ndarray, " n"], count: int, generator: np.random.Generator
) -> Int[np.ndarray, "count knobs"]:
    """One-point crossover of pairs of parents."""
    weight = fitness / (fitness.max() or 1.0) + 1e-8  # where all failed, all are alike
    # The two largest of log w + Gumbel noise are a draw of two in proportion to w, without replacement.
    lots = np.log(weight) + generator.gumbel(size=(count, len(parents)))
    drawn = np.argsort(-lots, axis=1)[:, :2]
    first, second = parents[drawn[:, 0]], parents[drawn[:, -1]]
    point = generator.integers(parents.shape[1], size=(count, 1))
    return np.where(np.arange(parents.shape[1]) < point, first, second)


def _mutated(
    space: KnobSpace, knobs: Int[np.ndarray, "n knobs"], mutation: float, generator: np.random.Generator
) -> Int[np.ndarray, "n knobs"]:
    options = generator.integers(0, space.shape, size=knobs.shape, dtype=np.int32)
    return np.where(generator.random(knobs.shape) < mutation, options, knobs)


def _measurable(
    space: KnobSpace, children: Int[np.ndarray, "n knobs"], measured: Int[np.ndarray, "m knobs"], generator: np.random.Generator
) -> Int[np.ndarray, "k knobs"]:
    """Move one random knob of each child that cannot be measured, again and again; those that then can be."""
    known, places = Pool(measured, space.shape), np.arange(len(space.knobs))

    def refused() -> Bool[np.ndarray, " n"]:
        twin = np.ones(len(children), bool)
        twin[np.unique(children, axis=0, return_index=True)[1]] = False
        return twin | ~space.valid(children) | known.contains(children)

    for _ in range(ATTEMPTS):
        again = refused()
        if not again.any():
            break
        moved = again[:, None] & (generator.integers(len(places), size=(len(children), 1)) == places)
        children = np.where(moved, _mutated(space, children, 1.0, generator), children)
    return children[~refused()]
