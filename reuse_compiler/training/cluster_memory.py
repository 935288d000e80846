"""Cluster reuse across batches (training paper, Algorithm 1): clusters keep the centroid of the batch that made them.

The paper keeps the clusters' *outputs*. In training these are out of date as soon as the weights change, so what is
kept here are the centroids, and every step multiplies those that occur in it with the weights of that step. Which
clusters are kept, and who takes them, is as with scope session (docs/operators.md, Clusters that are kept).
"""

from __future__ import annotations

import torch
from torch import Tensor

from reuse_compiler.reuse.config import DEFAULT_MEMORY
from reuse_compiler.training.clusters import InputClusters


class ClusterMemory:
    """Codes and centroids of all clusters seen so far, by block."""

    def __init__(self, memory: int = DEFAULT_MEMORY) -> None:
        """`memory` is the most that kept clusters may take in bytes, counted as those of scope session are."""
        self._memory = memory
        self._codes: list[Tensor] = []  # ascending
        self._centroids: list[Tensor] = []

    def __len__(self) -> int:
        """Clusters that are kept, over all blocks."""
        return sum(map(len, self._codes))

    def recall(self, clusters: InputClusters) -> int:
        """Gives known clusters their kept centroids and keeps the new ones; returns how many vectors were known."""
        blocking = clusters.blocking
        blocks = range(blocking.num_blocks)
        if not self._codes:
            self._codes = [clusters.codes(block)[:0].clone() for block in blocks]
            self._centroids = [clusters.centroids(block)[:0].clone() for block in blocks]
        room = max(0, self._memory // blocking.kept_cluster_bytes - len(self))
        known = 0
        for block in blocks:
            before = len(self._codes[block])
            known += self._recall(clusters, block, room)
            room -= len(self._codes[block]) - before
        return known

    def _recall(self, clusters: InputClusters, block: int, room: int) -> int:
        kept, codes, centroids = self._codes[block], clusters.codes(block), clusters.centroids(block)
        # A vector that is not finite is a cluster of its own whatever its code is.
        finite = torch.isfinite(centroids).all(dim=1)
        place = torch.searchsorted(kept, codes).clamp(max=max(0, len(kept) - 1))
        known = finite & (kept[place] == codes) if len(kept) else torch.zeros_like(finite)
        centroids[known] = self._centroids[block][place[known]]
        new = torch.nonzero(finite & ~known)[:, 0][:room]
        if len(new):
            merged = torch.cat([kept, codes[new]])
            order = merged.argsort()
            self._codes[block] = merged[order]
            self._centroids[block] = torch.cat([self._centroids[block], centroids[new]])[order]
        return int(clusters.members(block)[known].sum())
