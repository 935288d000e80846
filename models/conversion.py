"""Turns weights found in third-party packages into ONNX models: SqueezeNet, EfficientNet-lite0, HED and CRAFT.

Each function takes the path of the weights file and returns a model with float32 input `x` `[N, 3, H, W]`. Convs carry
the names of their layers in the weights file. Batch normalisation is folded into them. Heavy packages are imported
where they are needed.
"""

import importlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from models.checkpoint import read_checkpoint
from models.graph_writer import GraphWriter

Array = NDArray[Any]
LITE0_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Stride of the depthwise convolution of each of EfficientNet-lite0's sixteen blocks."""
EFFICIENTNET_EPSILON, TORCH_EPSILON = 1e-3, 1e-5
"""Batch-normalisation epsilons of the two PyTorch networks."""


class MissingExtraError(ImportError):
    """A package that only some models need is not installed."""


def squeezenet(path: Path) -> onnx.ModelProto:
    """SqueezeNet 1.1 (ImageNet), 224x224, from a pickle of `[weight kh,kw,Ic,M; bias]` per layer; logits."""
    with path.open("rb") as file:
        layers = ArrayUnpickler(file, encoding="latin1").load()
    graph = GraphWriter("squeezenet", ("N", 3, 224, 224))

    def conv(x: str, name: str, stride: int = 1, pad: int = 0) -> str:
        weight, bias = (np.asarray(array) for array in layers[name][:2])
        return graph.relu(graph.conv(x, weight.transpose(3, 2, 0, 1), bias, name, stride=stride, pad=pad))

    def fire(x: str, index: int) -> str:
        squeezed = conv(x, f"fire{index}/squeeze1x1")
        expanded = [conv(squeezed, f"fire{index}/expand1x1"), conv(squeezed, f"fire{index}/expand3x3", pad=1)]
        return graph.node("Concat", expanded, axis=1)

    x = graph.max_pool(conv("x", "conv1", stride=2), 3, 2)
    x = graph.max_pool(fire(fire(x, 2), 3), 3, 2)
    x = graph.max_pool(fire(fire(x, 4), 5), 3, 2)
    for index in range(6, 10):
        x = fire(x, index)
    x = graph.node("GlobalAveragePool", [conv(x, "conv10")])
    graph.node("Flatten", [x])
    return graph.build("logits", ("N", 1000))


def efficientnet_lite0(path: Path) -> onnx.ModelProto:
    """EfficientNet-lite0 (ImageNet), 224x224, from a PyTorch state dictionary; logits."""
    state = torch_state(path)
    graph = GraphWriter("efficientnet_lite0", ("N", 3, 224, 224))
    zero, six = (graph.constant(np.array(bound, np.float32)) for bound in (0, 6))

    def conv(x: str, name: str, norm: str, stride: int = 1, group: int = 1, clip: bool = True) -> str:
        weight, bias = fold_batch_norm(state[f"{name}.weight"], 0.0, state, norm, EFFICIENTNET_EPSILON)
        x = graph.conv(x, weight, bias, name.lstrip("_"), stride=stride, group=group, auto_pad="SAME_UPPER")
        return graph.node("Clip", [x, zero, six]) if clip else x

    def block(x: str, prefix: str, stride: int) -> str:
        skip, depth = x, state[f"{prefix}_depthwise_conv.weight"].shape[0]
        width = depth
        if f"{prefix}_expand_conv.weight" in state:
            width = state[f"{prefix}_expand_conv.weight"].shape[1]
            x = conv(x, f"{prefix}_expand_conv", f"{prefix}_bn0")
        x = conv(x, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride, depth)
        x = conv(x, f"{prefix}_project_conv", f"{prefix}_bn2", clip=False)
        same_shape = stride == 1 and width == state[f"{prefix}_project_conv.weight"].shape[0]
        return graph.node("Add", [x, skip]) if same_shape else x

    x = conv("x", "_conv_stem", "_bn0", 2)
    for index, stride in enumerate(LITE0_STRIDES):
        x = block(x, f"_blocks.{index}.", stride)
    x = graph.node("GlobalAveragePool", [conv(x, "_conv_head", "_bn1")])
    graph.gemm(graph.node("Flatten", [x]), state["_fc.weight"], state["_fc.bias"], "fc")
    return graph.build("logits", ("N", 1000))


def hed(path: Path) -> onnx.ModelProto:
    """HED, edge detector on VGG-16, any size, from a Keras 3 weights file; edge probability `[N, 1, H, W]`."""
    h5py = optional_import("h5py", "hed")
    graph = GraphWriter("hed", ("N", 3, "H", "W"))
    with h5py.File(path, "r") as file:

        def conv(x: str, key: str, name: str, pad: int = 0) -> str:
            weight, bias = (np.asarray(file[f"{key}/vars/{part}"]) for part in (0, 1))
            return graph.conv(x, weight.transpose(3, 2, 0, 1), bias, name, pad=pad)

        x, sides = "x", []
        for block, depth in enumerate((2, 2, 3, 3, 3), 1):
            if block > 1:
                x = graph.max_pool(x, 2, 2, f"pool{block - 1}", auto_pad="SAME_UPPER")
            for index in range(depth):
                key = f"block{block}/layers/conv2d" + (f"_{index}" if index else "")
                x = graph.relu(conv(x, key, f"conv{block}_{index + 1}", pad=1), f"relu{block}_{index + 1}")
            side = conv(x, f"dsn{block}", f"dsn{block}")
            sides.append(graph.resize_like(side, "x") if block > 1 else side)
        fused = conv(graph.node("Concat", sides, axis=1), "fuse", "fuse")
    graph.node("Sigmoid", [fused])
    return graph.build("edges", ("N", 1, "H", "W"))


def craft(path: Path) -> onnx.ModelProto:
    """CRAFT, text detector on VGG16-BN, sides multiples of 32; text and link heat maps `[N, 2, H/2, W/2]`."""
    state = torch_state(path)
    graph = GraphWriter("craft", ("N", 3, "H", "W"))

    def conv(x: str, name: str, norm: str | None = None, relu: bool = True, dilation: int = 1) -> str:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        if norm is not None:
            weight, bias = fold_batch_norm(weight, bias, state, norm, TORCH_EPSILON)
        x = graph.conv(x, weight, bias, name, pad=weight.shape[2] // 2 * dilation, dilation=dilation)
        return graph.relu(x) if relu else x

    def backbone(x: str, block: int, *layers: int, last_relu: bool = True) -> str:
        """Convolutions of VGG16-BN's `slice<block>`; each is followed by its batch normalisation."""
        for layer in layers:
            prefix = f"basenet.slice{block}."
            x = conv(x, f"{prefix}{layer}", f"{prefix}{layer + 1}", relu=last_relu or layer != layers[-1])
        return x

    def merge(x: str, skip: str, block: int) -> str:
        x = conv(graph.node("Concat", [x, skip], axis=1), f"upconv{block}.conv.0", f"upconv{block}.conv.1")
        return conv(x, f"upconv{block}.conv.3", f"upconv{block}.conv.4")

    half = backbone(graph.max_pool(backbone("x", 1, 0, 3), 2, 2), 1, 7, 10)
    quarter = backbone(graph.max_pool(half, 2, 2), 2, 14, 17)
    eighth = backbone(graph.max_pool(backbone(quarter, 3, 20), 2, 2), 3, 24, 27)
    sixteenth = backbone(graph.max_pool(backbone(eighth, 4, 30), 2, 2), 4, 34, 37, last_relu=False)
    x = graph.max_pool(sixteenth, 3, 1, pads=[1] * 4)
    x = conv(conv(x, "basenet.slice5.1", relu=False, dilation=6), "basenet.slice5.2", relu=False)
    x = merge(x, sixteenth, 1)
    for block, skip in ((2, eighth), (3, quarter), (4, half)):
        x = merge(graph.resize_like(x, skip), skip, block)
    for layer in (0, 2, 4, 6):
        x = conv(x, f"conv_cls.{layer}")
    conv(x, "conv_cls.8", relu=False)
    return graph.build("heat_maps", ("N", 2, "H_half", "W_half"))


def fold_batch_norm(
    weight: Array, bias: Array | float, state: Mapping[str, Array], norm: str, epsilon: float
) -> tuple[Array, Array]:
    """Weight `[M, ...]` and bias of a layer together with the batch normalisation `norm` that follows it."""
    gamma, beta, mean, var = (state[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
    scale = gamma / np.sqrt(var + epsilon)
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), beta + (bias - mean) * scale


def torch_state(path: Path) -> dict[str, Array]:
    """A PyTorch state dictionary as arrays, without the prefix that data-parallel training leaves on its names."""
    return {key.removeprefix("module."): tensor for key, tensor in read_checkpoint(path).items()}


def optional_import(package: str, model: str) -> Any:
    """The package, or an error that says how to install it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        hint = f"building '{model}' needs {package}: pip install reuse-compiler[models]"
        raise MissingExtraError(hint, name=package) from error


class ArrayUnpickler(pickle.Unpickler):
    """Loads containers of NumPy arrays and refuses everything else that a pickle could construct."""

    _ALLOWED = {
        (f"{package}.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0]
        for package in ("numpy.core", "numpy._core")
    } | {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}

    def find_class(self, module: str, name: str) -> Any:
        """What the pickle refers to by name, if it is one of the few things an array needs."""
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"refused: the pickle refers to {module}.{name}, which is not an array")
        return self._ALLOWED[module, name]
