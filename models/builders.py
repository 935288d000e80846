"""ONNX models of the papers' three networks, CifarNet, AlexNet and VGG-19, and of a small VGG for CIFAR-10.

An architecture is a function that lays its layers one after the other on a `Layers`: here that writes an ONNX graph,
in `models.train` a PyTorch module. All models are opset 17, IR version 9, float32, input `x` `[N, 3, size, size]` with
a free batch, output `logits` `[N, classes]`. Dropout and batch normalisation do not appear: they are gone or folded.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from models.graph_writer import GraphWriter

Weights = Mapping[str, NDArray[np.floating]]
"""`conv1.weight` `[M, Ic, kh, kw]`, `conv1.bias` `[M]`, `fc1.weight` `[out, in]`, ... by layer name."""

WEIGHTS = Path(__file__).with_name("weights")
SCALE = ".scale"
"""Behind the names of weights that are stored as integers, in NPZ files."""
VGG19_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Output channels and number of 3x3 convolutions per block (Simonyan and Zisserman 2014, configuration E)."""


class Layers(Protocol):
    """Where an architecture lays its layers, each on the one before it; convolutions and `relu` ones end in a Relu."""

    def conv(self, name: str, out_channels: int, kernel: int, stride: int = 1, pad: int = 0) -> None: ...

    def max_pool(self, name: str, kernel: int, stride: int, pad_end: int = 0) -> None: ...

    def flatten(self) -> None: ...

    def fully_connected(self, name: str, out_features: int, relu: bool = True) -> None: ...


class SequentialBuilder:
    """Appends layers one after the other and keeps track of the shape `[channels, height, width]` they leave."""

    def __init__(self, name: str, size: int, weights: Weights | None, seed: int) -> None:
        self._name, self._size, self._weights = name, size, weights
        self._random = np.random.default_rng(seed)
        self._graph = GraphWriter(name, ["N", 3, size, size])
        self._last = "x"
        self.shape: tuple[int, ...] = (3, size, size)

    def conv(self, name: str, out_channels: int, kernel: int, stride: int = 1, pad: int = 0) -> None:
        """Convolution `name` and the node of its Relu (`conv1` -> `relu1`, `conv1_2` -> `relu1_2`)."""
        weight, bias = self._parameters(name, (out_channels, self.shape[0], kernel, kernel))
        self._last = self._graph.conv(self._last, weight, bias, name, stride=stride, pad=pad)
        self._last = self._graph.relu(self._last, name.replace("conv", "relu"))
        self._slide(name, out_channels, kernel, stride, 2 * pad)

    def max_pool(self, name: str, kernel: int, stride: int, pad_end: int = 0) -> None:
        """Max pooling; `pad_end` rows and columns after the last one only (TensorFlow's SAME for even sizes)."""
        self._last = self._graph.max_pool(self._last, kernel, stride, name, pads=[0, 0, pad_end, pad_end])
        self._slide(name, self.shape[0], kernel, stride, pad_end)

    def flatten(self) -> None:
        """`[N, C, H, W]` to `[N, C*H*W]`, channels slowest."""
        self._last = self._graph.node("Flatten", [self._last], "flatten", axis=1)
        self.shape = (int(np.prod(self.shape)),)

    def fully_connected(self, name: str, out_features: int, relu: bool = True) -> None:
        """Gemm `name`, and with `relu` its Relu (`fc1` -> `relu_fc1`)."""
        weight, bias = self._parameters(name, (out_features, self.shape[0]))
        self._last = self._graph.gemm(self._last, weight, bias, name)
        if relu:
            self._last = self._graph.relu(self._last, f"relu_{name}")
        self.shape = (out_features,)

    def build(self) -> onnx.ModelProto:
        """The checked model; the last layer's output is `logits`."""
        return self._graph.build("logits", ["N", *self.shape])

    def _slide(self, name: str, channels: int, kernel: int, stride: int, padding: int) -> None:
        """The shape after a window of `kernel` moved by `stride`; `padding` counts both ends together."""
        extents = [(extent + padding - kernel) // stride + 1 for extent in self.shape[1:]]
        if min(extents) < 1:
            raise ValueError(f"{self._name}: an input of {self._size}x{self._size} is too small for {name}")
        self.shape = (channels, *extents)

    def _parameters(self, name: str, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Weight and bias of a layer: the given ones, else He-normal (variance 2 / fan-in) and zeros."""
        if self._weights is not None:
            return self._given(f"{name}.weight", shape), self._given(f"{name}.bias", shape[:1])
        deviation = np.float32(np.sqrt(2.0 / np.prod(shape[1:])))
        return self._random.standard_normal(shape, dtype=np.float32) * deviation, np.zeros(shape[0], np.float32)

    def _given(self, key: str, shape: tuple[int, ...]) -> NDArray[Any]:
        if self._weights is None or key not in self._weights:
            raise ValueError(f"{self._name}: the weights have no '{key}'")
        array = np.asarray(self._weights[key])
        if array.shape != shape:
            raise ValueError(f"{self._name}: '{key}' must be {list(shape)}, got {list(array.shape)}")
        return array


def lay_cifarnet(net: Layers) -> None:
    """CifarNet for CIFAR-10: K = 75, 1600 and M = 64, 64 (inference paper, Table II), 10 classes."""
    for index in (1, 2):
        net.conv(f"conv{index}", 64, kernel=5, pad=2)
        net.max_pool(f"pool{index}", kernel=3, stride=2, pad_end=1)
    net.flatten()
    net.fully_connected("fc1", 384)
    net.fully_connected("fc2", 192)
    net.fully_connected("fc3", 10, relu=False)


def lay_cifar_vgg(net: Layers) -> None:
    """A VGG of six 3x3 convolutions for CIFAR-10, `conv1_1` to `conv3_2`, of 64, 128 and 256 channels."""
    for block, channels in enumerate((64, 128, 256), 1):
        for index in (1, 2):
            net.conv(f"conv{block}_{index}", channels, kernel=3, pad=1)
        net.max_pool(f"pool{block}", kernel=2, stride=2)
    net.flatten()
    net.fully_connected("fc1", 256)
    net.fully_connected("fc2", 10, relu=False)


def lay_cifar_alexnet(net: Layers) -> None:
    """AlexNet for CIFAR-10: a first layer of 5x5 with stride 1 in place of 11x11 with stride 4, and a smaller head."""
    net.conv("conv1", 64, kernel=5, pad=2)
    net.max_pool("pool1", kernel=3, stride=2)
    net.conv("conv2", 192, kernel=5, pad=2)
    net.max_pool("pool2", kernel=3, stride=2)
    for index, channels in ((3, 384), (4, 384), (5, 256)):
        net.conv(f"conv{index}", channels, kernel=3, pad=1)
    net.max_pool("pool5", kernel=3, stride=2)
    net.flatten()
    net.fully_connected("fc1", 512)
    net.fully_connected("fc2", 256)
    net.fully_connected("fc3", 10, relu=False)


def lay_cifar_vgg19(net: Layers) -> None:
    """VGG-19 for CIFAR-10: its sixteen convolutions, and a smaller head on the 512 numbers that five pools leave."""
    _lay_vgg19_convolutions(net)
    net.flatten()
    net.fully_connected("fc1", 512)
    net.fully_connected("fc2", 512)
    net.fully_connected("fc3", 10, relu=False)


TRAINABLE: Mapping[str, Callable[[Layers], None]] = {
    "cifarnet": lay_cifarnet,
    "cifar_vgg": lay_cifar_vgg,
    "alexnet": lay_cifar_alexnet,
    "vgg19": lay_cifar_vgg19,
}
"""The networks for CIFAR-10 (images of 32x32) whose weights `models.train` makes."""


def cifarnet(weights: Weights | None = None, size: int = 32, seed: int = 0) -> onnx.ModelProto:
    """CifarNet, for images of any size."""
    net = SequentialBuilder("cifarnet", size, weights, seed)
    lay_cifarnet(net)
    return net.build()


def alexnet(size: int = 224, classes: int = 1000, weights: Weights | None = None, seed: int = 0) -> onnx.ModelProto:
    """AlexNet v2 of TF-slim: K = 363, 1600, 1728, 3456, 3456 and M = 64, 192, 384, 384, 256."""
    net = SequentialBuilder("alexnet", size, weights, seed)
    net.conv("conv1", 64, kernel=11, stride=4)
    net.max_pool("pool1", kernel=3, stride=2)
    net.conv("conv2", 192, kernel=5, pad=2)
    net.max_pool("pool2", kernel=3, stride=2)
    for index, channels in ((3, 384), (4, 384), (5, 256)):
        net.conv(f"conv{index}", channels, kernel=3, pad=1)
    net.max_pool("pool5", kernel=3, stride=2)
    _classifier(net, classes)
    return net.build()


def vgg19(size: int = 224, classes: int = 1000, weights: Weights | None = None, seed: int = 0) -> onnx.ModelProto:
    """VGG-19: sixteen 3x3 convolutions `conv1_1` to `conv5_4`, K = 27 to 4608, M = 64 to 512."""
    net = SequentialBuilder("vgg19", size, weights, seed)
    _lay_vgg19_convolutions(net)
    _classifier(net, classes)
    return net.build()


def cifar_network(network: str, weights: Weights) -> onnx.ModelProto:
    """One of `TRAINABLE` with given weights; its input is as `preprocessing.CIFAR10` makes it."""
    net = SequentialBuilder(network, 32, weights, seed=0)
    TRAINABLE[network](net)
    return net.build()


def trained(network: str) -> onnx.ModelProto:
    """One of `TRAINABLE` with the weights that `models.train` stored."""
    return cifar_network(network, load_weights(weights_path(network)))


def weights_path(network: str) -> Path:
    """Where the weights of one of `TRAINABLE` are stored."""
    return WEIGHTS / f"{network}.npz"


def load_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Weights stored in an NPZ file, in float32; integers `conv1.weight` are in units of `conv1.weight.scale` `[M]`."""
    with np.load(path, allow_pickle=False) as archive:
        stored = {key: archive[key].astype(np.float32) for key in archive.files}
    scales = {key: stored.pop(key) for key in list(stored) if key.endswith(SCALE)}
    for key, scale in scales.items():
        weight = stored[key.removesuffix(SCALE)]
        weight *= scale.reshape(-1, *[1] * (weight.ndim - 1))
    return stored


def _lay_vgg19_convolutions(net: Layers) -> None:
    for block, (channels, depth) in enumerate(VGG19_BLOCKS, 1):
        for index in range(1, depth + 1):
            net.conv(f"conv{block}_{index}", channels, kernel=3, pad=1)
        net.max_pool(f"pool{block}", kernel=2, stride=2)


def _classifier(net: SequentialBuilder, classes: int) -> None:
    net.flatten()
    net.fully_connected("fc6", 4096)
    net.fully_connected("fc7", 4096)
    net.fully_connected("fc8", classes, relu=False)
