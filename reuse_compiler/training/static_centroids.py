"""Scope static in training: a layer has a centroid for every code, and these are parameters that are trained.

Every vector is replaced by the centroid of its code, whatever batch it stands in: the limit of cluster reuse, in which
every cluster is known. The gradient of a centroid is the sum of its members' deltas (Eq. 8 times W^T).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from reuse_compiler.training.clusters import InputClusters
from reuse_compiler.training.soft_hash import vector_deltas
from reuse_compiler.training.torch_clusters import neuron_vectors


def give_centroids(clusters: InputClusters, centroids: Tensor) -> None:
    """Gives the clusters of an input the centroids `[B, 2^H, L]` of their codes; clusters must have their codes."""
    for block, own in enumerate(centroids.detach()):
        finite, found = _finite(clusters, block), clusters.centroids(block)
        found[finite] = own[clusters.codes(block)[finite]].to(found.dtype)


def codes_and_centroids(clusters: InputClusters, centroids: Tensor) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Returns the code of every vector, `[B, V]`, and the centroids by code; behind them one of NaN, without a code."""
    nobody = centroids.shape[1]
    codes = [
        torch.where(_finite(clusters, block), clusters.codes(block), nobody)[clusters.ids[block].long()]
        for block in range(clusters.blocking.num_blocks)
    ]
    own = functional.pad(centroids.detach().float(), (0, 0, 0, 1), value=float("nan"))
    return torch.stack(codes).int().cpu().numpy(), own.cpu().numpy()


def centroid_gradient(
    clusters: InputClusters, shape: torch.Size, weight: Tensor, grad_y: Tensor, grad_x: Tensor | None
) -> Tensor:
    """Returns the delta of centroids of `shape` [B, 2^H, L].

    `grad_x` is the input's delta, from which those of pixels are read: a cluster's sum is the same, whether its members
    have their own deltas or the mean. In layout `patch` vectors overlap, so that there it is of no use.
    """
    blocking = clusters.blocking
    if blocking.layout == "channel" and grad_x is not None:
        deltas = neuron_vectors(grad_x, blocking)
    else:
        deltas = vector_deltas(clusters, weight, grad_y, torch.arange(blocking.vectors, device=grad_y.device))
    nobody = shape[1]
    codes = [
        torch.where(_finite(clusters, block), clusters.codes(block), nobody)[clusters.ids[block].long()]
        for block in range(blocking.num_blocks)
    ]
    index = torch.stack(codes)[:, :, None].expand(-1, -1, shape[2])
    return functional.pad(deltas.new_zeros(shape), (0, 0, 0, 1)).scatter_add_(1, index, deltas)[:, :nobody]


def _finite(clusters: InputClusters, block: int) -> Tensor:
    """Returns which clusters have a code: a vector that is not finite is a cluster of its own whatever its code is."""
    return torch.isfinite(clusters.centroids(block)).all(dim=1)
