"""The gradient through the soft hash."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from torch import Tensor  # noqa: E402

from reuse_compiler.errors import ConfigError  # noqa: E402
from reuse_compiler.reuse.config import make_settings  # noqa: E402
from reuse_compiler.training.layer import ReuseConv2d  # noqa: E402
from reuse_compiler.training.soft_hash import SoftHash, vector_deltas  # noqa: E402
from reuse_compiler.training.torch_clusters import neuron_vectors  # noqa: E402
from tests.comparison import relative_error  # noqa: E402
from tests.training.networks import smooth_images  # noqa: E402


def soft_layer(layout: str = "channel", stride: int = 1, temperature: float = 0.5) -> ReuseConv2d:
    torch.manual_seed(0)
    settings = make_settings(family="sign", layout=layout, L=4, H=5)
    return ReuseConv2d(8, 6, 3, stride=stride, padding=1, settings=settings, soft_hash=temperature)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layout", ["channel", "patch"])
def test_deltas_of_some_vectors_are_those_of_the_dense_convolution(layout: str, stride: int) -> None:
    layer, x = soft_layer(layout, stride), smooth_images(2, 8, 7)
    clusters = layer.clusters_of(x)
    g = clusters.blocking.spec
    delta = torch.randn(2, 6, g.out_height, g.out_width)
    places = torch.arange(clusters.blocking.vectors)
    found = vector_deltas(clusters, layer.weight, delta, places)
    vectors = neuron_vectors(x, clusters.blocking).requires_grad_()
    if layout == "channel":
        from reuse_compiler.training.torch_clusters import joined_input

        y = torch.nn.functional.conv2d(joined_input(list(vectors), clusters.blocking), layer.weight, None, stride, 1)
    else:
        rows = torch.cat(list(vectors), 1) @ layer.weight.permute(0, 2, 3, 1).reshape(6, -1).T
        y = rows.reshape(2, g.out_height, g.out_width, 6).permute(0, 3, 1, 2)
    y.backward(delta)
    assert relative_error(found.detach().numpy(), vectors.grad.numpy()) < 1e-5


def test_a_cold_soft_hash_is_the_hard_one() -> None:
    layer, x = soft_layer(), smooth_images(2, 8, 7)
    clusters = layer.clusters_of(x)
    vectors = neuron_vectors(x, clusters.blocking)
    thresholds = torch.zeros(2, 5)

    def mixture(temperature: float) -> Tensor:
        soft = SoftHash(layer.hyperplanes, thresholds, vectors, torch.arange(98), temperature)
        return soft.mixture(0, layer.hyperplanes[0], clusters).detach()

    hard = clusters.centroids(0)[clusters.ids[0].long()]
    assert relative_error(mixture(1e-4).numpy(), hard.numpy()) < 1e-2
    assert relative_error(mixture(10.0).numpy(), hard.numpy()) > 0.3


def test_hyperplanes_get_the_derivative_of_the_mixture() -> None:
    layer, x = soft_layer(), smooth_images(2, 8, 7)
    clusters = layer.clusters_of(x)
    places = torch.arange(98)
    delta = torch.randn(2, 6, 7, 7)
    soft = SoftHash(layer.hyperplanes.detach(), torch.zeros(2, 5), neuron_vectors(x, clusters.blocking), places, 0.5)
    found = soft.gradient(clusters, layer.weight, delta)
    deltas = vector_deltas(clusters, layer.weight, delta, places)
    step, direction = 1e-2, torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    there, back = (
        (soft.mixture(1, layer.hyperplanes.detach()[1] + sign * step * direction, clusters) * deltas[1]).sum()
        for sign in (1, -1)
    )
    measured = float(there - back) / (2 * step)
    assert measured == pytest.approx(float((found[1] * direction).sum()), rel=0.02)


def test_training_moves_hyperplanes_so_that_the_error_falls() -> None:
    layer, x = soft_layer(), smooth_images(8, 8, 9)
    wanted = layer.to_conv()(x).detach()
    optimizer = torch.optim.Adam([layer.hyperplanes], 0.05)
    losses = []
    for _ in range(40):
        loss = (layer(x) - wanted).square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_settings_of_a_soft_hash_are_fixed() -> None:
    layer = soft_layer()
    hyperplanes = layer.hyperplanes
    layer.set_settings(layer.settings)
    assert layer.hyperplanes is hyperplanes
    with pytest.raises(ConfigError, match="L and H are fixed"):
        layer.set_settings(make_settings(family="sign", layout="channel", L=8, H=5))
