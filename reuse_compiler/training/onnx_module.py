"""An ONNX model of convolutions as a PyTorch module, so that networks which come as ONNX can be tuned.

Each Conv node becomes a Conv2d with the node's name ('.' replaced by '_'), and the constants of Gemm nodes become
parameters; other nodes are run one after the other by a function. Operators that common networks of convolutions have
are known; of others the model is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from reuse_compiler.errors import ConfigError

Attributes = dict[str, Any]


class OnnxModule(nn.Module):
    """Runs the graph of a model with one input; returns its outputs, or the only one.

    Raises ConfigError, naming the node's operator, for a model that it cannot run.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        inputs = [value.name for value in model.graph.input if value.name not in constants]
        if len(inputs) != 1:
            raise ConfigError(f"a model with {len(inputs)} inputs has no form in PyTorch here, only one with one input")
        self._nodes, (self._input,) = list(model.graph.node), inputs
        self._outputs = [value.name for value in model.graph.output]
        self.names: dict[str, str] = {}
        """Names of modules by the tensors that Conv nodes compute."""
        used = {name for node in self._nodes if node.op_type != "Conv" for name in node.input}
        self._constants = {name: torch.from_numpy(array.copy()) for name, array in constants.items() if name in used}
        for node in self._nodes:
            if node.op_type == "Conv":
                if any(name not in constants for name in node.input[1:] if name):
                    raise ConfigError(f"the weights of the Conv of '{node.output[0]}' are no initializers")
                arrays = [torch.from_numpy(constants[name].copy()) for name in node.input[1:] if name]
                name = node.name.replace(".", "_").replace("/", "_")
                if not name or name in self.names.values() or hasattr(self, name):
                    name = f"convolution_{len(self.names)}"
                self.names[node.output[0]] = name
                self.add_module(name, _convolution(_attributes(node), *arrays))
            elif node.op_type not in _FUNCTIONS or node.domain not in ("", "ai.onnx"):
                raise ConfigError(f"the operator {node.op_type} has no form in PyTorch here")
        gemms = {name for node in self._nodes if node.op_type == "Gemm" for name in node.input}
        self._learned = {name: f"matrix_{index}" for index, name in enumerate(sorted(gemms & self._constants.keys()))}
        for name, own in self._learned.items():
            self.register_parameter(own, nn.Parameter(self._constants.pop(name)))

    def forward(self, x: Tensor) -> Any:
        """Computes the outputs for the only input."""
        learned = {name: self.get_parameter(own) for name, own in self._learned.items()}
        values = self._constants | learned | {self._input: x}
        for node in self._nodes:
            inputs = [values[name] if name else None for name in node.input if name in values or not name]
            if node.op_type == "Conv":
                result = self.get_submodule(self.names[node.output[0]])(inputs[0])
            else:
                result = _FUNCTIONS[node.op_type](_attributes(node), *inputs)
            values[node.output[0]] = result
        outputs = [values[name] for name in self._outputs]
        return outputs[0] if len(outputs) == 1 else outputs


def _attributes(node: onnx.NodeProto) -> Attributes:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _convolution(attributes: Attributes, weight: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
    pads = attributes.get("pads", [0, 0, 0, 0])
    if attributes.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        pads = [size // 2 for size in weight.shape[2:]] * 2
        if any(size % 2 == 0 for size in weight.shape[2:]) or max(attributes.get("strides", [1])) > 1:
            raise ConfigError("auto_pad of a Conv with even kernels or strides is not known here")
    if pads[:2] != pads[2:]:
        raise ConfigError(f"a Conv has pads {pads}, which Conv2d does not know")
    if weight.dim() != 4:
        raise ConfigError("a Conv of another number of dimensions than two has no form in PyTorch here")
    group = attributes.get("group", 1)
    conv = nn.Conv2d(
        weight.shape[1] * group,
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        tuple(attributes.get("strides", [1, 1])),
        tuple(pads[:2]),
        tuple(attributes.get("dilations", [1, 1])),
        group,
        bias is not None,
    )
    with torch.no_grad():
        conv.weight.copy_(weight)
        if bias is not None:
            assert conv.bias is not None
            conv.bias.copy_(bias)
    return conv


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    pads = (left, right, top, bottom)
    padded = functional.pad(x, pads, value=float("-inf")) if any(pads) else x  # a Pad of nothing is exported, too
    kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
    # SAME_UPPER of windows that do not overlap pads at the end only, which is what ceil_mode does.
    ceil = attributes.get("auto_pad") == b"SAME_UPPER" or bool(attributes.get("ceil_mode", 0))
    return functional.max_pool2d(padded, kernel, strides, ceil_mode=ceil)


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    pads = attributes.get("pads", [0, 0, 0, 0])
    if pads[:2] != pads[2:] or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ConfigError("an AveragePool whose padding is not symmetric has no form in PyTorch here")
    return functional.avg_pool2d(
        x,
        attributes["kernel_shape"],
        attributes.get("strides", [1, 1]),
        tuple(pads[:2]),
        bool(attributes.get("ceil_mode", 0)),
        bool(attributes.get("count_include_pad", 0)),
    )


def _batch_norm(attributes: Attributes, x: Tensor, scale: Tensor, b: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, b, eps=attributes.get("epsilon", 1e-5))


def _clip(attributes: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x.clamp(attributes.get("min", low), attributes.get("max", high))


def _reshape(attributes: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    """A 0 stands for the input's own extent."""
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape.tolist())])


def _resize(attributes: Attributes, x: Tensor, *sizes: Tensor) -> Tensor:
    """By scales or sizes, whichever is the last input."""
    last = sizes[-1]
    height, width = (int(s) for s in last[2:]) if not last.is_floating_point() else (
        int(x.shape[2 + axis] * float(last[2 + axis])) for axis in (0, 1)
    )  # fmt: skip
    mode = attributes.get("mode", b"nearest").decode()
    if mode == "nearest":
        return functional.interpolate(x, size=(height, width), mode="nearest")
    corners = attributes.get("coordinate_transformation_mode", b"half_pixel") == b"align_corners"
    return functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=corners)


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    if not attributes.get("transB", 0) or attributes.get("transA", 0):
        raise ConfigError("only Gemm with transB is known")
    return functional.linear(a, b, c)


def _shape(attributes: Attributes, x: Tensor) -> Tensor:
    return torch.tensor(x.shape)


def _slice(attributes: Attributes, x: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Of the first axes, as exporters cut shapes."""
    return x[tuple(slice(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True))]


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda attributes, a, b: a + b,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "Constant": lambda attributes: torch.from_numpy(numpy_helper.to_array(attributes["value"]).copy()),
    "Dropout": lambda attributes, x, *options: x,
    "Flatten": lambda attributes, x: x.flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda attributes, x: x.mean(dim=(2, 3), keepdim=True),
    "Identity": lambda attributes, x: x,
    "LeakyRelu": lambda attributes, x: functional.leaky_relu(x, attributes.get("alpha", 0.01)),
    "MatMul": lambda attributes, a, b: a @ b,
    "MaxPool": _max_pool,
    "Mul": lambda attributes, a, b: a * b,
    "Relu": lambda attributes, x: torch.relu(x),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": lambda attributes, x: torch.sigmoid(x),
    "Slice": _slice,
    "Softmax": lambda attributes, x: torch.softmax(x, attributes.get("axis", -1)),
    "Sub": lambda attributes, a, b: a - b,
}
