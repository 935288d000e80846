"""Gradients against the papers' equations read literally, and against float64 autograd of the clustered computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from torch import Tensor, nn  # noqa: E402

from reuse_compiler.reference.vectors import block_weights, unfold  # noqa: E402
from reuse_compiler.reuse.config import make_settings  # noqa: E402
from reuse_compiler.reuse.geometry import ConvSpec  # noqa: E402
from reuse_compiler.training.clusters import InputClusters  # noqa: E402
from reuse_compiler.training.layer import ReuseConv2d  # noqa: E402
from reuse_compiler.training.torch_clusters import joined_input, neuron_vectors  # noqa: E402
from tests.comparison import relative_error  # noqa: E402
from tests.training.networks import smooth_images  # noqa: E402

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {"in_channels": 8, "out_channels": 5, "kernel_size": 3, "padding": 1},
    "strides": {"in_channels": 6, "out_channels": 7, "kernel_size": (3, 2), "stride": (2, 3), "padding": (2, 0)},
    "dilations": {"in_channels": 4, "out_channels": 20, "kernel_size": 3, "dilation": (1, 2), "padding": "same"},
    "groups": {"in_channels": 12, "out_channels": 6, "kernel_size": 3, "groups": 3, "padding": 1},
    "one_tap": {"in_channels": 9, "out_channels": 4, "kernel_size": 1, "bias": False},
}
LAYOUTS = [("patch", 5), ("patch", 9), ("channel", 3), ("channel", 4)]
"""With lengths that leave short blocks."""


def make_layer(convolution: str, layout: str, length: int, **options: Any) -> ReuseConv2d:
    torch.manual_seed(1)
    options = CONVOLUTIONS[convolution] | options
    own = min(length, options["in_channels"] // options.get("groups", 1))
    settings = make_settings(family="sign", layout=layout, L=length if layout == "patch" else own, H=6)
    return ReuseConv2d(settings=settings, **options)


def run(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns output and the gradients of weight and input for a random delta of the output, on the CPU."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y))
    return y.detach().cpu(), layer.weight.grad.clone().cpu(), x.grad.cpu()


def clustered_vectors(x: Tensor, clusters: InputClusters) -> Tensor:
    """The neuron vectors `[B, V, L]`, each replaced by its cluster's mean: differentiable, in the precision of x."""
    vectors = neuron_vectors(x, clusters.blocking)
    replaced = []
    for block, own in enumerate(vectors):
        ids = clusters.ids[block].long()
        sums = torch.zeros(int(ids.max()) + 1, own.shape[1], dtype=x.dtype).index_add(0, ids, own)
        replaced.append((sums / torch.bincount(ids)[:, None])[ids])
    return torch.stack(replaced)


def dense_from(vectors: Tensor, layer: ReuseConv2d, weight: Tensor, bias: Tensor | None, g: ConvSpec) -> Tensor:
    """The convolution of given neuron vectors, by PyTorch."""
    blocking = layer.blocking(layer.settings, (g.batch, g.in_channels, g.in_height, g.in_width))
    if blocking.layout == "channel":
        image = joined_input(list(vectors), blocking)
        return nn.functional.conv2d(
            nn.functional.pad(image, (g.pads[1], g.pads[3], g.pads[0], g.pads[2])),
            weight, bias, g.strides, 0, g.dilations, g.group,
        )  # fmt: skip
    kernels = weight.reshape(g.group, g.group_out_channels, g.group_in_channels, g.taps).transpose(2, 3).flatten(2)
    cut = [
        torch.cat(
            [vectors[b][:, : blocking.block_length(b)] for b in range(first, first + blocking.blocks_per_group)], 1
        )
        for first in range(0, blocking.num_blocks, blocking.blocks_per_group)
    ]
    y = torch.cat([rows @ own.T for rows, own in zip(cut, kernels, strict=True)], 1)
    if bias is not None:
        y = y + bias
    return y.reshape(g.batch, g.out_height, g.out_width, g.out_channels).permute(0, 3, 1, 2)


def autograd(layer: ReuseConv2d, x: Tensor, straight_through: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The same as `run`, by float64 autograd of the clustered computation with the layer's own clusters."""
    clusters = layer.clusters_of(x)
    x = x.double().requires_grad_()
    weight = layer.weight.detach().double().requires_grad_()
    bias = None if layer.bias is None else layer.bias.detach().double()
    vectors = clustered_vectors(x, clusters)
    if straight_through:
        own = neuron_vectors(x, clusters.blocking)
        vectors = own + (vectors - own).detach()
    y = dense_from(vectors, layer, weight, bias, clusters.blocking.spec)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).double())
    return y.detach(), weight.grad, x.grad


def check_reuse(layer: ReuseConv2d, x: Tensor) -> None:
    """A test without reuse, or with one cluster, would prove nothing."""
    clusters = layer.clusters_of(x)
    vectors = clusters.blocking.num_blocks * clusters.blocking.vectors
    assert clusters.blocking.num_blocks < clusters.count < 0.9 * vectors


@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize("layout, length", LAYOUTS)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_gradients_are_those_of_float64_autograd(
    convolution: str, layout: str, length: int, straight_through: bool
) -> None:
    layer = make_layer(convolution, layout, length, gradient="straight_through" if straight_through else "averaged")
    x = smooth_images(3, layer.in_channels, 11)
    check_reuse(layer, x)
    for found, wanted in zip(run(layer, x), autograd(layer, x, straight_through), strict=True):
        assert relative_error(found.double().numpy(), wanted.numpy()) < 2e-6


@pytest.mark.parametrize("layout, length", LAYOUTS)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_pytorch_computes_what_the_library_computes(convolution: str, layout: str, length: int) -> None:
    layer = make_layer(convolution, layout, length)
    x = smooth_images(3, layer.in_channels, 11)
    library = run(layer, x)
    from reuse_compiler.training.clustering import cluster

    assert type(
        cluster(x, layer.blocking(layer.settings, x.shape), layer.settings, layer.parameters_of_hash)
    ) is not type(
        cluster(x.double(), layer.blocking(layer.settings, x.shape), layer.settings, layer.parameters_of_hash)
    )
    for found, wanted in zip(run(layer.double(), x.double()), library, strict=True):
        assert relative_error(found.numpy(), wanted.double().numpy()) < 1e-5


@pytest.mark.parametrize("length", [4, 9, 18])
def test_gradients_are_the_training_papers_equations(length: int) -> None:
    """Equations 8 to 10 and 13 to 18, symbol by symbol, on the unfolded input (layout patch)."""
    layer = make_layer("plain", "patch", length, in_channels=2, bias=False)
    x = smooth_images(2, 2, 8)
    check_reuse(layer, x)
    clusters = layer.clusters_of(x)
    g = clusters.blocking.spec
    _, weight_gradient, input_gradient = run(layer, x)
    delta_y = np.asarray(torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(2)))
    delta_y = delta_y.transpose(0, 2, 3, 1).reshape(g.rows, g.out_channels).astype(np.float64)
    unfolded = unfold(x.numpy(), g, 0).astype(np.float64)
    weights = block_weights(layer.weight.detach().numpy(), clusters.blocking).astype(np.float64)
    grad_w = np.zeros((g.columns, g.out_channels))
    delta_x = np.zeros((g.rows, g.columns))
    for block in range(clusters.blocking.num_blocks):
        start, own_length = clusters.blocking.block_start(block), clusters.blocking.block_length(block)
        ids = clusters.ids[block].numpy()
        for cluster in range(ids.max() + 1):
            members = np.flatnonzero(ids == cluster)
            centroid = unfolded[members, start : start + own_length].mean(axis=0)
            delta_y_s = sum(delta_y[k] for k in members)  # Eq. 8
            grad_w[start : start + own_length] += np.outer(centroid, delta_y_s)  # Eq. 9, 10
            delta_y_sa = delta_y_s / len(members)  # above Eq. 16
            delta_x_l = delta_y_sa @ weights[block, :own_length].T  # Eq. 16 to 18
            for i in members:  # "used for all the neuron vectors in the same cluster"
                delta_x[i, start : start + own_length] = delta_x_l
    folded = fold(delta_x, g)
    expected_weight = grad_w.reshape(3, 3, 2, 5).transpose(3, 2, 0, 1)
    assert relative_error(weight_gradient.double().numpy(), expected_weight) < 2e-6
    assert relative_error(input_gradient.double().numpy(), folded) < 2e-6


def fold(rows: NDArray[np.float64], g: ConvSpec) -> NDArray[np.float64]:
    """Adds each element of the unfolded input's delta to the pixel that it was read from."""
    image = np.zeros((g.batch, g.in_channels, g.in_height, g.in_width))
    for index, row in enumerate(rows):
        n, pixel = divmod(index, g.out_height * g.out_width)
        for column, value in enumerate(row):
            tap, channel = divmod(column, g.in_channels)
            y = pixel // g.out_width - g.pads[0] + tap // g.kernel[1]
            z = pixel % g.out_width - g.pads[1] + tap % g.kernel[1]
            if 0 <= y < g.in_height and 0 <= z < g.in_width:
                image[n, channel, y, z] += value
    return image


@pytest.mark.parametrize("order", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize(
    "convolution, options",
    [("strides", {}), ("plain", {"in_channels": 6, "kernel_size": (4, 3), "padding": "same"})],
    ids=["strides", "uneven pads"],
)
def test_straight_through_is_the_dense_input_gradient(convolution: str, options: dict[str, Any], order: str) -> None:
    layer = make_layer(convolution, "channel", 3, gradient="straight_through", **options)
    x = smooth_images(3, 6, 11).to(memory_format=getattr(torch, order))
    averaged = make_layer(convolution, "channel", 3, **options)
    wanted = run(layer.to_conv(), x)[2]
    assert relative_error(run(layer, x)[2].numpy(), wanted.numpy()) < 1e-6
    assert relative_error(run(averaged, x)[2].numpy(), wanted.numpy()) > 0.1


@pytest.mark.parametrize("order", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_int8_is_nearly_the_dense_input_gradient(convolution: str, order: str) -> None:
    layer = make_layer(convolution, "channel", 3, gradient="int8")
    x = smooth_images(3, layer.in_channels, 11).to(memory_format=getattr(torch, order))
    wanted, found = run(layer.to_conv(), x)[2], run(layer, x)[2]
    assert relative_error(found.numpy(), wanted.numpy()) < 0.02
    assert found.isfinite().all() and found.stride() == wanted.stride()
    zeros = torch.zeros(3, layer.out_channels, *layer(x).shape[2:])
    own = x.clone().requires_grad_()
    layer(own).backward(zeros)
    assert not own.grad.any()


@pytest.mark.parametrize("gradient", ["averaged", "straight_through", "int8"])
def test_frozen_weights_get_no_gradient_and_change_no_other(gradient: str) -> None:
    layer, x = make_layer("plain", "channel", 4, gradient=gradient), smooth_images(3, 8, 11)
    wanted = run(layer, x)[2]
    layer.weight.requires_grad_(False)
    own = x.clone().requires_grad_()
    layer.weight.grad = None
    y = layer(own)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)))
    assert layer.weight.grad is None and torch.equal(own.grad, wanted)
