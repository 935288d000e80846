"""Centroids of scope static that learn: against the convolution of what vectors are replaced by, and in onnxruntime."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install reuse-compiler[training]")

from torch import Tensor, nn  # noqa: E402

import reuse_compiler  # noqa: E402
from reuse_compiler.compiler import compile_file  # noqa: E402
from reuse_compiler.errors import ConfigError  # noqa: E402
from reuse_compiler.options import CompileOptions  # noqa: E402
from reuse_compiler.reference.operators import hash_vectors  # noqa: E402
from reuse_compiler.reuse.config import make_settings  # noqa: E402
from reuse_compiler.training import TuneOptions, convert, export_onnx, load_reuse_state, reuse_state, tune  # noqa: E402
from reuse_compiler.training.layer import ReuseConv2d, until_fitted  # noqa: E402
from reuse_compiler.training.refit import fit_layer  # noqa: E402
from reuse_compiler.training.static_centroids import Distance  # noqa: E402
from reuse_compiler.training.torch_clusters import neuron_vectors  # noqa: E402
from tests.comparison import relative_error  # noqa: E402
from tests.training.networks import small_network, smooth_images  # noqa: E402
from tests.training.test_gradients import CONVOLUTIONS, LAYOUTS, dense_from  # noqa: E402

STATIC = {"3": make_settings(family="learned", layout="channel", L=8, H=5, scope="static")}


def static_layer(convolution: str, layout: str, length: int, x: Tensor, **options: Any) -> ReuseConv2d:
    """A layer with trees and centroids fitted to `x`, and centroids that are no means any more."""
    torch.manual_seed(1)
    conv = nn.Conv2d(**CONVOLUTIONS[convolution])
    own = length if layout == "patch" else min(length, conv.in_channels // conv.groups)
    settings = make_settings(family="learned", layout=layout, L=own, H=4, scope="static")
    layer = ReuseConv2d.of(conv, until_fitted(settings), gradient="straight_through", **options)
    fit_layer(layer, settings, [x])
    with torch.no_grad():
        layer.centroids.add_(torch.randn(layer.centroids.shape), alpha=0.1)
    return layer


def by_autograd(layer: ReuseConv2d, x: Tensor, delta: Tensor) -> list[Any]:
    """Output and gradients of input, weight and centroids: every vector is the centroid of the reference's code."""
    blocking = layer.clusters_of(x).blocking
    codes = torch.from_numpy(hash_vectors(x.numpy(), blocking, layer.settings.family, layer.parameters_of_hash))
    own, weight, centroids = (
        tensor.detach().double().requires_grad_() for tensor in (x, layer.weight, layer.centroids)
    )
    vectors = neuron_vectors(own, blocking)
    replaced = torch.stack([table[code] for table, code in zip(centroids, codes, strict=True)])
    bias = None if layer.bias is None else layer.bias.detach().double()
    y = dense_from(replaced + (vectors - vectors.detach()), layer, weight, bias, blocking.spec)
    y.backward(delta.double())
    return [y.detach(), own.grad, weight.grad, centroids.grad]


@pytest.mark.parametrize("layout, length", LAYOUTS)
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64], ids=["library", "PyTorch"])
def test_output_and_gradients_are_those_of_replaced_vectors(
    convolution: str, layout: str, length: int, precision: Any
) -> None:
    x = smooth_images(2, CONVOLUTIONS[convolution]["in_channels"], 11)
    layer = static_layer(convolution, layout, length, x)
    used = [int((own != 0).any(1).sum()) for own in by_autograd(layer, x, torch.ones_like(layer(x)))[3]]
    assert min(used) > 4  # centroids of each block
    delta = torch.randn(layer(x).shape, generator=torch.Generator().manual_seed(2))
    wanted = by_autograd(layer, x, delta)
    layer.to(precision)
    own = x.to(precision).requires_grad_()
    y = layer(own)
    y.backward(delta.to(precision))
    found = [y.detach(), own.grad, layer.weight.grad, layer.centroids.grad]
    for ours, theirs in zip(found, wanted, strict=True):
        assert relative_error(ours.double().numpy(), theirs.numpy()) < 3e-6


def test_averaged_input_gradients_leave_those_of_centroids_as_they_are() -> None:
    x = smooth_images(2, 8, 11)
    layer, found = static_layer("plain", "channel", 4, x), []
    for gradient in ("straight_through", "averaged"):
        layer.gradient, layer.centroids.grad, own = gradient, None, x.clone().requires_grad_()
        layer(own).sin().sum().backward()
        found.append((layer.centroids.grad, own.grad))
    layer.centroids.grad = None
    layer(x).sin().sum().backward()  # an input that needs no gradient, as the first layer's
    assert relative_error(found[1][0].numpy(), found[0][0].numpy()) < 1e-5
    assert relative_error(layer.centroids.grad.numpy(), found[0][0].numpy()) < 1e-5
    assert relative_error(found[1][1].numpy(), found[0][1].numpy()) > 0.1


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_under_autocast_the_input_is_replaced(convolution: str) -> None:
    """The products are those of bfloat16, with 8 bits each; the codes are the same."""
    x = smooth_images(2, CONVOLUTIONS[convolution]["in_channels"], 11)
    layer = static_layer(convolution, "channel", 4, x)
    delta, found = torch.randn(layer(x).shape, generator=torch.Generator().manual_seed(2)), []
    for enabled in (False, True):
        layer.zero_grad()
        own = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = layer(own)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
        y.backward(delta.to(y.dtype))
        found.append([y.detach().float(), own.grad, layer.weight.grad, layer.centroids.grad])
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None and theirs is not None
        assert relative_error(theirs.numpy(), ours.numpy()) < 2e-2


def test_a_vector_that_is_not_finite_has_no_centroid() -> None:
    x = smooth_images(2, 8, 11)
    layer = static_layer("plain", "channel", 4, x)
    clean = layer(x)
    x[0, 1, 5, 5] = float("nan")
    y = layer(x)
    spoilt = torch.isnan(y).any(1)
    assert spoilt[0, 4:7, 4:7].all() and int(spoilt.sum()) == 9
    assert torch.equal(y.isnan() | (y == clean), torch.ones_like(y, dtype=torch.bool))


def test_settings_and_centroids_are_kept_apart_from_the_state_of_conv2d() -> None:
    model, x = small_network(), smooth_images(16, 3, 12)
    layer = convert(model, x, STATIC).layers["3"]
    assert "centroids" in dict(layer.named_parameters()) and layer.centroids.shape == (2, 32, 8)
    assert model.state_dict().keys() == small_network().state_dict().keys()
    model.load_state_dict(small_network().state_dict())
    state, known = copy.deepcopy(reuse_state(model)), layer.centroids
    before = model.eval()(x)
    with torch.no_grad():
        layer.centroids.add_(1.0)
    assert not torch.equal(model(x), before)
    load_reuse_state(model, state)
    assert layer.centroids is known and torch.equal(model(x), before)
    layer.set_settings(make_settings(family="sign", layout="channel", L=8, H=5))
    assert "centroids" not in dict(layer.named_parameters())
    load_reuse_state(model, state)
    assert torch.equal(model(x), before)


def test_what_makes_no_sense_is_refused() -> None:
    model, x = small_network(), smooth_images(16, 3, 12)
    layer = convert(model, x, STATIC).layers["3"]
    with pytest.raises(ConfigError, match="needs centroids"):
        layer.set_settings(STATIC["3"], layer.parameters_of_hash)
    with pytest.raises(ConfigError, match="has shape"):
        layer.set_settings(STATIC["3"], layer.parameters_of_hash, np.zeros((2, 16, 8), np.float32))
    with pytest.raises(ConfigError, match="cluster reuse"):
        layer.cluster_reuse = True
    with pytest.raises(ConfigError, match="cluster_reuse"):
        layer.set_settings(make_settings(family="sign", layout="channel", L=8, H=5, scope="session"))


def test_the_distance_from_centroids_has_the_gradient_of_its_formula() -> None:
    torch.manual_seed(0)
    x, replaced = (torch.randn(2, 8, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    expected = (x - replaced.detach()).square().sum() / x.square().sum()
    wanted = torch.autograd.grad(3.0 * expected, x)
    found = Distance.apply(x, replaced)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(3.0 * found, x), wanted)
    assert torch.autograd.grad(Distance.apply(x, replaced), replaced, allow_unused=True) == (None,)


@pytest.fixture(scope="module")
def tuned() -> tuple[nn.Module, nn.Module, Tensor]:
    """A network, what it was tuned from, and images."""
    teacher, images = small_network().eval(), smooth_images(320, 3, 12)
    student = copy.deepcopy(teacher)
    convert(student, images[:16], STATIC, gradient="straight_through")
    report = tune(student, list(images.split(16)), teacher, TuneOptions(steps=60, rate=1e-4))
    assert report.kept == "tuned"
    assert report.loss_tuned < 0.97 * report.loss_reconstructed < 0.9 * report.loss_as_is
    return student, teacher, images


def test_centroids_learn_in_tuning(tuned: tuple[nn.Module, nn.Module, Tensor]) -> None:
    """With the centroids that it began with instead of those that it learned, the model is worse."""
    student, teacher, images = tuned
    before: Any = copy.deepcopy(student)
    fit_layer(before[3], STATIC["3"], [before[2](before[1](before[0](batch))) for batch in images.split(16)])
    with torch.no_grad():
        wanted = teacher(images)
        errors = [float((model(images) - wanted).norm() / wanted.norm()) for model in (student, before)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("batch", [1, 5])
def test_what_was_tuned_is_computed_in_onnxruntime(
    tuned: tuple[nn.Module, nn.Module, Tensor], batch: int, tmp_path: Path
) -> None:
    student, _, images = tuned
    x = images[:batch]
    config = export_onnx(student, tmp_path / "net.onnx", x)
    compile_file(tmp_path / "net.onnx", tmp_path / "out.onnx", CompileOptions(config=config), verify=False)
    session = reuse_compiler.session(tmp_path / "out.onnx")
    with torch.no_grad():
        wanted = student(x).numpy()
    assert relative_error(session.run(None, {"x": x.numpy()})[0], wanted) < 1e-5
    node = next(node for node in reuse_compiler.statistics(session) if node.node == "3")
    assert node.runs == 1
