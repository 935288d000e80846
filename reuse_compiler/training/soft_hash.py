"""A gradient for the hyperplanes of family `sign`: what moving a vector to other clusters would do to the loss.

Which cluster a vector falls into is a step function of the hyperplanes. TREC's idea is to learn them nevertheless, by
a soft hash in the backward pass: with s_h = sigmoid((v.p_h - t_h) / temperature), a vector belongs to each cluster
of the input to a degree that is the product over its bits of s_h or 1 - s_h, normalised. What the layer would use for
v is then a mixture of centroids, whose derivative by the hyperplanes, times the delta of v, is summed over a sample of
vectors and scaled up. The forward pass stays hard.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from reuse_compiler.training.clusters import InputClusters
from reuse_compiler.training.torch_clusters import block_weights


@dataclass(frozen=True)
class SoftHash:
    """What the gradient needs of one forward pass."""

    projections: Tensor
    """`[B, L, H]`."""
    thresholds: Tensor
    """`[B, H]`."""
    vectors: Tensor
    """Sampled vectors `[B, n, L]`."""
    places: Tensor
    """Which of the V vectors of a block those are, int64 `[n]`."""
    temperature: float

    def gradient(self, clusters: InputClusters, weight: Tensor, grad_y: Tensor) -> Tensor:
        """Returns the delta of the projections `[B, L, H]`."""
        deltas = vector_deltas(clusters, weight, grad_y, self.places)
        scale = clusters.blocking.vectors / max(1, len(self.places))
        result = torch.zeros_like(self.projections)
        for block in range(clusters.blocking.num_blocks):
            with torch.enable_grad():
                hyperplanes = self.projections[block].detach().requires_grad_()
                soft = self.mixture(block, hyperplanes, clusters)
                change = (soft * deltas[block]).sum() * scale
            (result[block],) = torch.autograd.grad(change, hyperplanes)
        return result

    def mixture(self, block: int, hyperplanes: Tensor, clusters: InputClusters) -> Tensor:
        """Returns what softly hashed vectors would be replaced by, `[n, L]`."""
        places = torch.arange(hyperplanes.shape[1], device=hyperplanes.device)
        bits = ((clusters.codes(block)[:, None] >> places) & 1).to(hyperplanes.dtype)
        logits = (self.vectors[block] @ hyperplanes - self.thresholds[block]) / self.temperature
        degrees = functional.logsigmoid(logits) @ bits.T + functional.logsigmoid(-logits) @ (1.0 - bits).T
        return degrees.softmax(dim=1) @ clusters.centroids(block).to(hyperplanes.dtype)


def vector_deltas(clusters: InputClusters, weight: Tensor, grad_y: Tensor, places: Tensor) -> Tensor:
    """Returns the exact delta `[B, n, L]` of some neuron vectors: that of Eq. 3, for those alone."""
    blocking, g = clusters.blocking, clusters.blocking.spec
    channels = g.group_out_channels
    rows = functional.pad(grad_y.permute(0, 2, 3, 1).reshape(g.rows, g.out_channels), (0, 0, 0, 1))
    own = block_weights(weight.detach(), blocking)
    result = weight.new_zeros(blocking.num_blocks, len(places), blocking.sub_vector_length)
    for tap in range(blocking.taps_per_block):
        read_by = places if blocking.layout == "patch" else _readers(clusters, places, tap)
        deltas = rows[read_by]
        for block in range(blocking.num_blocks):
            group = block // blocking.blocks_per_group
            of_tap = own[block][:, tap * channels : (tap + 1) * channels]
            result[block] += deltas[:, group * channels : (group + 1) * channels] @ of_tap.T
    return result


def _readers(clusters: InputClusters, places: Tensor, tap: int) -> Tensor:
    """Returns the output pixel that reads each of the pixels `places` with a tap; N*Oh*Ow where there is none."""
    g = clusters.blocking.spec
    image, rest = places // (g.in_height * g.in_width), places % (g.in_height * g.in_width)
    row = rest // g.in_width + g.pads[0] - tap // g.kernel[1] * g.dilations[0]
    column = rest % g.in_width + g.pads[1] - tap % g.kernel[1] * g.dilations[1]
    y, x = row // g.strides[0], column // g.strides[1]
    exists = (row % g.strides[0] == 0) & (column % g.strides[1] == 0)
    exists &= (y >= 0) & (y < g.out_height) & (x >= 0) & (x < g.out_width)
    return torch.where(exists, (image * g.out_height + y) * g.out_width + x, g.rows)
