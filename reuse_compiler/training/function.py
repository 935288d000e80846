"""The convolution with reuse as a differentiable function."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reuse_compiler.reuse.geometry import ConvSpec
from reuse_compiler.training.clusters import InputClusters
from reuse_compiler.training.shapes import order_of
from reuse_compiler.training.soft_hash import SoftHash
from reuse_compiler.training.static_centroids import centroid_gradient

Gradient = Literal["averaged", "straight_through", "int8"]
"""Which delta the input gets. `averaged`: Eq. 13-18 of the training paper, each member of a cluster the mean of the
members' deltas. `straight_through`: each vector its own exact delta, as if it had been multiplied itself. `int8`: the
same, its factors rounded to int8 where the processor multiplies these faster."""
ZERO_POINT = 128
"""The byte that stands for a delta of 0."""
CACHED_IMAGES = 4
"""Rounded at a time, so that what is in between stays in the cache."""


class ReuseConvolution(torch.autograd.Function):
    """Forward pass on given clusters; backward pass from the same ones."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        projections: Tensor | None,
        centroids: Tensor | None,
        clusters: InputClusters,
        gradient: Gradient,
        soft: SoftHash | None,
    ) -> Tensor:
        """`projections` (those of `soft`) and `centroids` (of scope static) are here for their gradients alone."""
        ctx.save_for_backward(weight)
        ctx.centroids = None if centroids is None else centroids.shape
        ctx.clusters, ctx.gradient, ctx.soft = clusters, gradient, soft
        return clusters.forward(weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        for_x, for_weight, for_bias, for_hash, for_centroids = ctx.needs_input_grad[:5]
        averaged = ctx.gradient == "averaged"
        clusters: InputClusters = ctx.clusters
        grad_weight = grad_x = None
        if for_weight or (for_x and averaged):
            found = clusters.backward(weight, grad_y, for_weight, for_x and averaged)
            grad_weight, grad_x = found.weight, found.x
        if for_x and not averaged:
            multiply = int8_input_gradient if ctx.gradient == "int8" else exact_input_gradient
            grad_x = multiply(weight, grad_y, clusters.blocking.spec)
        grad_bias = grad_y.sum(dim=(0, 2, 3)) if for_bias else None
        grad_hash = ctx.soft.gradient(clusters, weight, grad_y) if for_hash else None
        grad_centroids = None
        if for_centroids:
            grad_centroids = centroid_gradient(clusters, ctx.centroids, weight, grad_y, grad_x)
        return grad_x, grad_weight, grad_bias, grad_hash, grad_centroids, None, None, None


def exact_input_gradient(weight: Tensor, grad_y: Tensor, g: ConvSpec) -> Tensor:
    """Returns Eq. 3: the delta of the input of the dense convolution, `[N, Ic, H, W]`, in the order of `grad_y`."""
    top, left, bottom, right = g.pads
    symmetric = top == bottom and left == right
    padding, height, width = (top, left), g.in_height, g.in_width
    if not symmetric:  # which PyTorch has no words for: the delta of the padded input, and of that the middle
        padding, height, width = (0, 0), height + top + bottom, width + left + right
    # `conv2d_input` of torch.nn.grad says nothing of the order of the input, and takes up to twice as long for it.
    order = order_of(grad_y)
    shape = (g.batch, g.in_channels, height, width)
    like = torch.empty(shape, dtype=grad_y.dtype, device=grad_y.device, memory_format=order)
    weight = weight.contiguous(memory_format=order)
    only_x = (True, False, False)
    found: Tensor = torch.ops.aten.convolution_backward(
        grad_y, like, weight, None, g.strides, padding, g.dilations, False, (0, 0), g.group, only_x
    )[0]
    return found if symmetric else found[:, :, top : top + g.in_height, left : left + g.in_width]


def int8_input_gradient(weight: Tensor, grad_y: Tensor, g: ConvSpec) -> Tensor:
    """Returns Eq. 3 as a convolution of int8: deltas by their largest one, weights by the largest of each channel.

    It is exact where PyTorch has no such product, or where that may overflow or is no faster: without VNNI.
    """
    pads = [d * (k - 1) - pad for d, k, pad in zip(g.dilations, g.kernel, g.pads, strict=False)]
    plain = g.strides == (1, 1) and g.group == 1 and g.pads[:2] == g.pads[2:] and min(pads) >= 0
    if not plain or grad_y.device.type != "cpu" or grad_y.dtype != torch.float32 or not _has_int8():
        return exact_input_gradient(weight, grad_y, g)
    own = weight.flip(2, 3).transpose(0, 1)
    smallest = torch.finfo(torch.float32).tiny
    scales = own.abs().amax((1, 2, 3)).clamp(min=smallest) / 127
    # In the order of memory: any other one takes ten times as long.
    least, most = torch.aminmax(grad_y.permute(0, 2, 3, 1) if order_of(grad_y) is torch.channels_last else grad_y)
    scale = max(float(most), -float(least), smallest * 127) / 127
    deltas = torch.empty_like(grad_y, dtype=torch.uint8)
    for some, rounded in zip(grad_y.split(CACHED_IMAGES), deltas.split(CACHED_IMAGES), strict=True):
        rounded.copy_(some.mul(1.0 / scale).add_(ZERO_POINT + 0.5))
    weights = (own / scales[:, None, None, None]).round().to(torch.int8).contiguous()
    shape = [pads, g.dilations, 1]
    packed = torch.ops.onednn.qconv_prepack(weights, scales, scale, ZERO_POINT, g.strides, *shape, deltas.shape)
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    words = [None, g.strides, *shape, 1.0, 0, torch.float32, "none", [], ""]
    found: Tensor = torch.ops.onednn.qconv2d_pointwise(deltas, scale, ZERO_POINT, packed, scales, zeros, *words)
    return found


def _has_int8() -> bool:
    vnni = getattr(torch.cpu, "_is_vnni_supported", None)
    return vnni is not None and vnni() and hasattr(torch.ops.onednn, "qconv2d_pointwise")
