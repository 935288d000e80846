"""Locality-sensitive hashing of the papers: the hash family `sign`, by the operators' own kernels."""

from __future__ import annotations

import numpy as np

from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.runtime.clustering import cluster_ids
from tools.similarity.clustering.base import Clustering
from tools.similarity.clustering.vectors import Ids, VectorSets


class LocalitySensitiveHashing(Clustering):
    """Vectors on the same side of H random hyperplanes share a cluster (inference paper, Eq. 1).

    A vector's length does not matter to that, so the distance decides about the centroids alone.
    """

    name = "lsh"
    effort = "H"

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def assign(self, sets: VectorSets, effort: float) -> Ids:
        family, length, hashes = FAMILIES["sign"], sets.vectors.shape[2], int(effort)
        rng = np.random.default_rng([self._seed, sets.block])
        parameters = family.random_parameters(rng, 1, length, hashes).block(0)
        ids = cluster_ids(sets.vectors.reshape(-1, length), "sign", hashes, parameters)
        return ids.astype(np.int64).reshape(sets.weights.shape)

    def refusal(self, effort: float, size: int) -> str | None:
        largest = FAMILIES["sign"].max_hashes
        return f"a code has at most {largest} bits" if effort > largest else None
