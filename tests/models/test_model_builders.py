"""The papers' networks: valid ONNX, the papers' K and M, stable names, and the trained CifarNet's accuracy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from models import builders, preprocessing

RunModel = Callable[..., Any]
ReadImages = Callable[..., Any]

VGG19_K = [27, 576, 576, 1152, 1152, 2304, 2304, 2304, 2304, 4608, 4608, 4608, 4608, 4608, 4608, 4608]
VGG19_M = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
NETWORKS: dict[str, tuple[Callable[[], onnx.ModelProto], int, list[int], list[int]]] = {
    "cifarnet": (builders.cifarnet, 32, [75, 1600], [64, 64]),
    "alexnet": (
        lambda: builders.alexnet(size=127, classes=10),
        127,
        [363, 1600, 1728, 3456, 3456],
        [64, 192, 384, 384, 256],
    ),
    "vgg19": (lambda: builders.vgg19(size=32, classes=10), 32, VGG19_K, VGG19_M),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_network_is_valid_runs_and_has_the_papers_layers(name: str, run_model: RunModel) -> None:
    build, size, kernel_sizes, kernel_counts = NETWORKS[name]
    model = build()
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 9
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]

    initializers = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    convs = [initializers[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    assert [np.prod(dims[1:]) for dims in convs] == kernel_sizes
    assert [dims[0] for dims in convs] == kernel_counts

    x = np.random.default_rng(0).standard_normal((3, 3, size, size), dtype=np.float32)
    together, alone = run_model(model, x), run_model(model, x[:1])
    assert together.shape == (3, 10)
    assert alone.shape == (1, 10)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_conv_is_followed_by_its_relu(name: str) -> None:
    model = NETWORKS[name][0]()
    consumers = {node.input[0]: node for node in model.graph.node}
    for conv in (node for node in model.graph.node if node.op_type == "Conv"):
        relu = consumers[conv.output[0]]
        assert (relu.op_type, relu.name) == ("Relu", conv.name.replace("conv", "relu"))


def test_random_weights_depend_on_the_seed_only() -> None:
    first, again, other = (builders.cifarnet(seed=seed).SerializeToString() for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("size", [24, 33, 96])
def test_cifarnet_takes_other_input_sizes(size: int, run_model: RunModel) -> None:
    assert run_model(builders.cifarnet(size=size), np.zeros((2, 3, size, size), np.float32)).shape == (2, 10)


def test_an_input_too_small_is_refused_by_layer_name() -> None:
    with pytest.raises(ValueError, match=r"32x32 is too small for pool2"):
        builders.alexnet(size=32)


def test_wrong_weights_are_refused_by_key() -> None:
    weights = builders.load_weights(builders.weights_path("cifarnet"))
    with pytest.raises(ValueError, match=r"'fc1\.weight' must be \[384, 9216\]"):
        builders.cifarnet(weights, size=48)
    del weights["conv2.bias"]
    with pytest.raises(ValueError, match=r"no 'conv2\.bias'"):
        builders.cifarnet(weights)


@pytest.mark.parametrize(
    ("network", "least"), [("cifarnet", 0.84), ("cifar_vgg", 0.86), ("alexnet", 0.82), ("vgg19", 0.82)]
)
def test_trained_networks_recognise_the_test_images(
    network: str, least: float, read_images: ReadImages, run_model: RunModel
) -> None:
    photos, labels = read_images("cifar10_test")
    logits = run_model(builders.trained(network), preprocessing.CIFAR10(photos))
    assert np.mean(logits.argmax(1) == labels) >= least
