"""Adaptive sampling: few configurations to measure that stand for many (CHAMELEON, Ahn et al., ICLR 2020, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from search.pool import Pool
from search.rows import distinct, nearest
from search.space import KnobSpace
from surrogates.inducing import inducing_points


def adaptive_sample(
    space: KnobSpace,
    candidates: Int[np.ndarray, "n knobs"],
    *,
    key: PRNGKeyArray,
    measured: Pool,
    counts: Sequence[int] = range(8, 65, 8),
    threshold: float = 2.5,
) -> Int[np.ndarray, "m knobs"]:
    r"""Cluster the candidates and take what stands for each cluster.

    k-means is run for one number of clusters after the other until the loss's knee, where $\mathrm{threshold} \cdot L_k \ge
    L_{k-1}$. A centroid's option numbers are rounded to a configuration. One that was measured already makes way for the mode,
    every knob's most frequent option among the candidates. Where that is of no use either, or the configuration is not valid
    (which the paper leaves to the hardware), we take the cluster's candidate nearest to the centroid.

    **Arguments:**

    - `candidates`: distinct configurations, valid and not measured, at least one.
    - `measured`: what not to propose.
    - `counts`, `threshold`: the numbers of clusters to try, ascending, and the knee's slope: those of the authors' code.

    **Returns:** at least one configuration and at most one a cluster: distinct, valid, not measured.
    """
    centroids = _at_the_knee(candidates, counts, threshold, key)
    owner, distance = nearest(candidates, centroids)
    order = np.lexsort((distance, owner))
    members = candidates[order[np.unique(owner[order], return_index=True)[1]]]  # of each cluster, its centroid's nearest

    rounded = np.rint(centroids).astype(np.int32)[np.unique(owner)]
    mode = np.array([np.bincount(column).argmax() for column in candidates.T], np.int32)
    synthetic = np.where(measured.contains(rounded)[:, None], mode, rounded)
    useful = space.valid(synthetic) & ~measured.contains(synthetic)
    useful &= np.isin(np.arange(len(synthetic)), np.unique(synthetic, axis=0, return_index=True)[1])
    chosen = np.where(useful[:, None], synthetic, members)
    return distinct(chosen)


def _at_the_knee(
    candidates: Int[np.ndarray, "n knobs"], counts: Sequence[int], threshold: float, key: PRNGKeyArray
) -> Float[np.ndarray, "m knobs"]:
    """The centroids of the first clustering that is not `threshold` times better than the one before."""
    points, last = candidates.astype(np.float32), np.inf
    for count, this in zip(counts, jax.random.split(key, len(counts)), strict=True):
        centroids = inducing_points(points, count, key=this)
        loss = nearest(points, centroids)[1].sum()
        if threshold * loss >= last:
            break
        last = loss
    return centroids
