"""Scope static in training: a layer has a centroid for every code, and these are parameters that are trained.

Every vector is replaced by the centroid of its code, whatever batch it stands in: the limit of cluster reuse, in which
every cluster is known. The gradient of a centroid is the sum of its members' deltas (Eq. 8 times W^T).

Under autocast the input itself is replaced, and what follows is PyTorch's own convolution: in bfloat16 that is faster
than sums in float32, where the processor has instructions for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
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
    own = _with_nobody(centroids.detach().float())
    return _codes(clusters, centroids.shape[1]).int().cpu().numpy(), own.cpu().numpy()


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
    return _sums(deltas.transpose(0, 1), _rows(clusters, shape[1]), shape)


class ReplacedInput(torch.autograd.Function):
    """An input `[N, Ic, H, W]` with every vector of it (layout `channel`) replaced by the centroid of its code."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, centroids: Tensor, clusters: InputClusters) -> Tensor:
        """Returns it with its channels last in memory."""
        g = clusters.blocking.spec
        rows = _rows(clusters, centroids.shape[1])
        ctx.save_for_backward(rows)
        ctx.clusters, ctx.shape = clusters, centroids.shape
        found = _with_nobody(centroids.detach()).flatten(0, 1).index_select(0, rows)
        groups = found.reshape(clusters.blocking.vectors, g.group, -1)[:, :, : clusters.blocking.group_width]
        return groups.reshape(g.batch, g.in_height, g.in_width, g.in_channels).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Each vector gets its own delta, as if it stood there itself; a centroid those of its members."""
        grad_centroids = None
        if ctx.needs_input_grad[1]:
            deltas = neuron_vectors(grad, ctx.clusters.blocking).transpose(0, 1)
            grad_centroids = _sums(deltas, ctx.saved_tensors[0], ctx.shape)
        return grad, grad_centroids, None


class Distance(torch.autograd.Function):
    """How far an input is from what it is replaced by, squared, over its own square; only the input has a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, replaced: Tensor) -> Tensor:
        """Returns a scalar."""
        difference = x - replaced
        size = torch.linalg.vector_norm(x).square()
        distance = torch.linalg.vector_norm(difference).square() / size
        ctx.save_for_backward(x, difference, size, distance)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Two passes over the input, of which the chain of these operations would take six."""
        x, difference, size, distance = ctx.saved_tensors
        return torch.addcmul(difference, x, -distance).mul_(2.0 * grad / size), None


def _sums(deltas: Tensor, rows: Tensor, shape: torch.Size) -> Tensor:
    """Returns the sums `shape` [B, C, L] over the members of each centroid, of deltas `[V, B, L]`."""
    blocks, nobody, length = shape
    sums = deltas.new_zeros(blocks * (nobody + 1), length).index_add_(0, rows, deltas.reshape(-1, length))
    return sums.reshape(blocks, nobody + 1, length)[:, :nobody]


def _rows(clusters: InputClusters, nobody: int) -> Tensor:
    """Returns the row that each vector `[V*B]`, block by block of a pixel, has among centroids `[B, nobody + 1]`."""
    codes = _codes(clusters, nobody)
    first = torch.arange(len(codes), device=codes.device)[:, None] * (nobody + 1)
    return (codes + first).T.reshape(-1)


def _codes(clusters: InputClusters, nobody: int) -> Tensor:
    """Returns the code of every vector, `[B, V]`; `nobody` if it has none."""
    codes = [
        torch.where(_finite(clusters, block), clusters.codes(block), nobody)[clusters.ids[block].long()]
        for block in range(clusters.blocking.num_blocks)
    ]
    return torch.stack(codes)


def _with_nobody(centroids: Tensor) -> Tensor:
    """Returns the centroids `[B, C + 1, L]` with one of NaN behind them."""
    return functional.pad(centroids, (0, 0, 0, 1), value=float("nan"))


def _finite(clusters: InputClusters, block: int) -> Tensor:
    """Returns which clusters have a code: a vector that is not finite is a cluster of its own whatever its code is."""
    return torch.isfinite(clusters.centroids(block)).all(dim=1)
