"""The operators of a genetic algorithm over knobs, guided by which options good configurations have."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from search.space import KnobSpace


def option_frequencies(
    space: KnobSpace, good: Int[np.ndarray, "n knobs"], weight: Float[np.ndarray, " n"], *, uniform: float = 0.5
) -> Float[np.ndarray, "knobs options"]:
    r"""How likely each option of each knob is to be good: $(1 - u) \sum_i w_i [o = o_i] / \sum_i w_i + u / |\mathrm{options}|$.

    **Arguments:**

    - `good`: configurations to learn from.
    - `weight`: how much each counts, not negative; where all are 0, every option is as likely as any other.
    - `uniform`: u, from 0 to 1; above 0 no option is out of reach.

    **Returns:** a row of probabilities for each knob, ending in zeros where others have more options.
    """
    lengths = np.array(space.shape)
    even = (np.arange(lengths.max()) < lengths[:, None]) / lengths[:, None]
    total = weight.sum()
    if not total > 0:
        return even
    counted = np.stack([np.bincount(column, weight, lengths.max()) for column in good.T])
    return (1 - uniform) * counted / total + uniform * even


def breed(
    parents: Int[np.ndarray, "n knobs"],
    fitness: Float[np.ndarray, " n"],
    frequencies: Float[np.ndarray, "knobs options"],
    count: int,
    *,
    key: PRNGKeyArray,
    mutation: float = 0.1,
) -> Int[np.ndarray, "count knobs"]:
    """Children of pairs of parents; some may be invalid, or equal.

    **Arguments:**

    - `parents`, `fitness`: a parent is drawn with a probability proportional to its fitness; where all are 0, uniformly.
    - `frequencies`: of two parents' options a child has each in proportion to these, and a mutated knob's option is drawn from
      them.
    - `mutation`: the probability that a knob mutates.
    """
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    total = fitness.sum()
    pairs = generator.choice(len(parents), (2, count), p=fitness / total if total > 0 else None)
    knobs = np.arange(parents.shape[1])
    first, second = parents[pairs]
    likely = frequencies[knobs, first]
    children = np.where(generator.random(first.shape) * (likely + frequencies[knobs, second]) < likely, first, second)
    cumulative = frequencies.cumsum(axis=1)
    cumulative /= cumulative[:, -1:]  # ends in exactly 1, which no draw reaches
    mutants = (generator.random((count, len(knobs), 1)) >= cumulative).sum(axis=-1)
    return np.where(generator.random(first.shape) < mutation, mutants, children).astype(np.int32)
