"""Scope session: clusters that are kept from run to run (docs/operators.md, Clusters that are kept).

It is Algorithm 1 of the training paper with CR = 1, and III-C of the inference paper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reuse_compiler.reference.operators import Clusters, centroids_of, clusters_of, number_clusters
from reuse_compiler.reference.vectors import neuron_vectors
from reuse_compiler.reuse.config import DEFAULT_MEMORY, Metric
from reuse_compiler.reuse.families.base import Array, array_module
from reuse_compiler.reuse.geometry import Blocking


@dataclass(frozen=True)
class Kept:
    """The state of a node: by block, the codes [n] of its kept clusters and their centroids [n, L]."""

    codes: tuple[npt.NDArray[np.int64], ...]
    centroids: tuple[npt.NDArray[np.float32], ...]

    @staticmethod
    def nothing(blocking: Blocking) -> Kept:
        """Returns the state that a session begins with."""
        blocks = blocking.num_blocks
        empty = np.zeros((0, blocking.sub_vector_length), np.float32)
        return Kept((np.zeros(0, np.int64),) * blocks, (empty,) * blocks)

    @property
    def count(self) -> int:
        return sum(map(len, self.codes))


def cluster_with_kept(
    x: Array,
    codes: Array,
    blocking: Blocking,
    kept: Kept,
    cluster_bytes: int,
    memory: int = DEFAULT_MEMORY,
    capacity: float = 1.0,
    metric: Metric = "euclidean",
    verify: bool = False,
) -> tuple[Clusters, Kept]:
    """Operator Cluster of scope session: returns a run's clusters, and the state after it.

    `cluster_bytes` is what a kept cluster counts as. The loop over vectors runs on the host.
    """
    xp = array_module(x)
    to_host = xp.asnumpy if xp is not np else np.asarray
    vectors, codes = to_host(neuron_vectors(x, blocking)), to_host(codes)
    ids = np.zeros((blocking.num_blocks, blocking.vectors), np.int32)
    rows, guarded, known = [], 0, 0
    room = max(memory // cluster_bytes - kept.count, 0)
    next_codes, next_centroids = list(kept.codes), list(kept.centroids)
    for block in range(blocking.num_blocks):
        own, centroids = vectors[block], kept.centroids[block]
        numbers = {int(code): number for number, code in enumerate(kept.codes[block])}
        ids[block] = [numbers.get(int(code), -1) for code in codes[block]]
        takes = ids[block] >= 0
        if verify:
            takes &= (own.view(np.uint32) == centroids[ids[block]].view(np.uint32)).all(axis=1) if numbers else False
        else:
            takes &= np.isfinite(own).all(axis=1)
        others = np.flatnonzero(~takes)
        known += blocking.vectors - len(others)
        new, beyond, shared = number_clusters(
            own[others], codes[block, others], blocking.vectors, capacity, verify, numbers
        )
        ids[block, others] = np.array(new, np.int32) + len(centroids)
        guarded += beyond
        made = centroids_of(own[others], np.array(new, np.int64), metric, verify)
        rows.append(np.concatenate([centroids, made]))
        joining = list(shared.items())[:room]
        room -= len(joining)
        next_codes[block] = np.append(kept.codes[block], np.array([code for code, _ in joining], np.int64))
        next_centroids[block] = np.concatenate([centroids, made[[number for _, number in joining]]])
    clusters = clusters_of(ids, rows, guarded, blocking, xp)
    return replace(clusters, known=known), Kept(tuple(next_codes), tuple(next_centroids))
