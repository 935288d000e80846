"""The neuron vectors that are to be clustered, cut into the sets of the scope, and the centroids of their clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.reuse.config import Metric, Scope
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.runtime.clustering import cluster_ids

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

SUMMED_COLUMNS = 64
"""Columns that are summed at a time: sorted copies of whole vectors would leave the cache."""


@dataclass(frozen=True)
class VectorSets:
    """The neuron vectors of one block of one batch, in sets that share no cluster: one per image, or one for all."""

    vectors: Floats
    """[U, n, L]: n vectors in each of U sets, scaled to length 1 where the distance is angular."""
    norms: NDArray[np.float64]
    """[U * n]: what a scaled vector must be multiplied with to be the original one; ones where none was scaled."""
    weights: Floats
    """[U, n]: how many identical vectors of its set a vector stands for; 0 for those that another one stands for."""
    representative: Ids
    """[U * n]: the vector that stands for each, as an index into all sets."""
    block: int
    """Number of the block within the layer: what is random is drawn for each block anew, in all batches alike."""

    @property
    def size(self) -> int:
        """Vectors per set."""
        return int(self.vectors.shape[1])

    def clusters(self, ids: Ids) -> Clusters:
        """Turns ids [U, n] of any kind, equal for vectors of a cluster within a set, into clusters with centroids."""
        kinds = np.unique(ids.reshape(-1)[self.representative], return_inverse=True)[1].reshape(-1)
        sets = len(self.vectors)
        keys = kinds * sets + np.repeat(np.arange(sets), self.size)
        numbers = np.unique(keys, return_inverse=True)[1].reshape(-1)
        return Clusters(numbers, self._centroids(numbers))

    def _centroids(self, ids: Ids) -> Floats:
        """Formula of docs/operators.md, Cluster: the mean, or the mean direction times the mean length."""
        members = np.bincount(ids)
        starts = np.concatenate([[0], np.cumsum(members)[:-1]])
        order = np.argsort(ids, kind="stable")
        sums = sums_of(self.vectors.reshape(len(ids), -1), order, starts)
        scales = np.bincount(ids, self.norms) / members
        return (sums * (scales / members)[:, None]).astype(np.float32)


def sums_of(vectors: Floats, order: Ids, starts: Ids) -> NDArray[np.float64]:
    """Returns sums over runs of `order`, indices of vectors [V, L]; each run goes from its start to the next one's."""
    sums = np.empty((len(starts), vectors.shape[1]))
    for first in range(0, vectors.shape[1], SUMMED_COLUMNS):
        part = slice(first, first + SUMMED_COLUMNS)
        sums[:, part] = np.add.reduceat(vectors[:, part].take(order, axis=0), starts, axis=0, dtype=np.float64)
    return sums


@dataclass(frozen=True)
class Clusters:
    """Which vectors share a cluster, and what stands for them: ids [V] in 0..C-1, centroids [C, L]."""

    ids: Ids
    centroids: Floats

    @property
    def count(self) -> int:
        return len(self.centroids)


def vector_sets(vectors: Floats, block: int, scope: Scope, metric: Metric, images: int) -> VectorSets:
    """Prepares the vectors [V, L] of one block of a batch of `images` images for clustering.

    Identical vectors of a set are found here, once for all methods: every method then gives them one cluster.
    """
    vectors = vectors + np.float32(0)  # a copy in which -0 has become 0
    norms = np.ones(len(vectors))
    if metric == "angular":
        norms = np.sqrt(np.einsum("vl,vl->v", vectors, vectors, dtype=np.float64))
        vectors /= np.where(norms > 0, norms, 1.0)[:, None].astype(np.float32)
    sets = images if scope == "image" else 1
    representative = _representatives(vectors, np.repeat(np.arange(sets), len(vectors) // sets))
    weights = np.bincount(representative, minlength=len(vectors)).astype(np.float32)
    shape = (sets, len(vectors) // sets)
    return VectorSets(vectors.reshape(*shape, -1), norms, weights.reshape(shape), representative, block)


def _representatives(vectors: Floats, sets: Ids) -> Ids:
    """Returns for each vector the first identical one of its set."""
    kinds = cluster_ids(vectors, "exact", 1, HashParameters()).astype(np.int64)
    keys = kinds * (int(sets[-1]) + 1 if len(sets) else 1) + sets
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    found: Ids = first[inverse.reshape(-1)]
    return found
