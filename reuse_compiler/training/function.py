"""The convolution with reuse as a differentiable function."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

from reuse_compiler.reuse.geometry import ConvGeometry
from reuse_compiler.training.clusters import InputClusters
from reuse_compiler.training.soft_hash import SoftHash

Gradient = Literal["averaged", "straight_through"]
"""Which delta the input gets. `averaged`: Eq. 13-18 of the training paper, each member of a cluster the mean of the
members' deltas. `straight_through`: each vector its own exact delta, as if it had been multiplied itself."""


class ReuseConvolution(torch.autograd.Function):
    """Forward pass on given clusters; backward pass from the same ones."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        projections: Tensor | None,
        clusters: InputClusters,
        gradient: Gradient,
        soft: SoftHash | None,
    ) -> Tensor:
        """`projections` are those of `soft`, to which alone they matter here."""
        ctx.save_for_backward(weight)
        ctx.clusters, ctx.gradient, ctx.soft = clusters, gradient, soft
        return clusters.forward(weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        for_x, for_weight, for_bias, for_hash = ctx.needs_input_grad[:4]
        averaged = ctx.gradient == "averaged"
        clusters: InputClusters = ctx.clusters
        found = clusters.backward(weight, grad_y, for_weight, for_x and averaged)
        grad_x = found.x
        if for_x and not averaged:
            grad_x = exact_input_gradient(weight, grad_y, clusters.blocking.geometry)
        grad_bias = grad_y.sum(dim=(0, 2, 3)) if for_bias else None
        grad_hash = ctx.soft.gradient(clusters, weight, grad_y) if for_hash else None
        return grad_x, found.weight, grad_bias, grad_hash, None, None, None


def exact_input_gradient(weight: Tensor, grad_y: Tensor, g: ConvGeometry) -> Tensor:
    """Returns Eq. 3: the delta of the input of the dense convolution, `[N, Ic, H, W]`."""
    top, left, bottom, right = g.pads
    shape = (g.batch, g.in_channels, g.in_height + top + bottom, g.in_width + left + right)
    padded: Tensor = conv2d_input(shape, weight, grad_y, g.strides, 0, g.dilations, g.group)
    return padded[:, :, top : top + g.in_height, left : left + g.in_width]
