"""Cluster reuse across batches (training paper, Algorithm 1): clusters keep the centroid of the batch that made them.

The paper keeps the clusters' *outputs*. In training these are out of date as soon as the weights change, so what is
kept here are the centroids, and every step multiplies those that occur in it with the weights of that step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_compiler.training.clusters import InputClusters

MOST_CLUSTERS = 2**16
"""Clusters of a block that are kept, at most; what appears later is computed, but forgotten."""


class ClusterMemory:
    """Codes and centroids of all clusters seen so far, by block."""

    def __init__(self) -> None:
        self._codes: list[Tensor] = []  # ascending
        self._centroids: list[Tensor] = []

    def __len__(self) -> int:
        """Clusters that are kept, over all blocks."""
        return sum(map(len, self._codes))

    def recall(self, clusters: InputClusters) -> int:
        """Gives known clusters their kept centroids and keeps the new ones; returns how many vectors were known."""
        blocks = range(clusters.blocking.num_blocks)
        if not self._codes:
            self._codes = [clusters.codes(block)[:0].clone() for block in blocks]
            self._centroids = [clusters.centroids(block)[:0].clone() for block in blocks]
        return sum(self._recall(clusters, block) for block in blocks)

    def _recall(self, clusters: InputClusters, block: int) -> int:
        kept, codes, centroids = self._codes[block], clusters.codes(block), clusters.centroids(block)
        # A vector that is not finite is a cluster of its own whatever its code is.
        finite = torch.isfinite(centroids).all(dim=1)
        place = torch.searchsorted(kept, codes).clamp(max=max(0, len(kept) - 1))
        known = finite & (kept[place] == codes) if len(kept) else torch.zeros_like(finite)
        centroids[known] = self._centroids[block][place[known]]
        new = torch.nonzero(finite & ~known)[:, 0][: MOST_CLUSTERS - len(kept)]
        if len(new):
            merged = torch.cat([kept, codes[new]])
            order = merged.argsort()
            self._codes[block] = merged[order]
            self._centroids[block] = torch.cat([self._centroids[block], centroids[new]])[order]
        return int(clusters.members(block)[known].sum())
