"""What layers compute before an activation or the limits of bytes: what weights are fitted to."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import onnx
from onnx import helper

from reuse_compiler.graph.names import Names
from reuse_compiler.graph.tensors import to_tensor
from reuse_compiler.passes.layer import ConvLayer, QuantisedLayer


def with_linear_outputs(model: onnx.ModelProto, layers: Iterable[ConvLayer]) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Returns a model that computes the linear results of these layers of its main graph, and their tensors by layer.

    It is `model` itself, if that has them all. A QLinearConv has none, as its limits are a part of it: it gets a Conv
    of floats beside it, for what its bytes stand for.
    """
    whole = {layer.name: layer for layer in layers if layer.proto.op_type == "QLinearConv"}
    tensors = {layer.name: layer.linear_output for layer in layers}
    if not whole:
        return model, tensors
    result, names = deepcopy(model), Names(model)
    for name, layer in whole.items():
        assert isinstance(layer, QuantisedLayer)
        tensors[name] = names.new_tensor(f"{name}/linear")
        result.graph.node.extend(_convolution(layer, tensors[name], names))
    return result, tensors


def _convolution(layer: QuantisedLayer, result: str, names: Names) -> list[onnx.NodeProto]:
    """Returns the nodes of a Conv of what the bytes of a layer's input stand for."""
    x_scale, x_zero_point, weights, bias, x = (
        names.new_tensor(f"{result}/{part}") for part in ("x_scale", "x_zero_point", "weights", "bias", "x")
    )
    arrays = {
        x_scale: layer.constant("x_scale"),
        x_zero_point: layer.constant("x_zero_point"),
        weights: layer.weights.reshape(layer.spec.weight_shape),
        bias: layer.biases,
    }
    nodes = [helper.make_node("Constant", [], [name], value=to_tensor(array, "")) for name, array in arrays.items()]
    nodes.append(helper.make_node("DequantizeLinear", [layer.input, x_scale, x_zero_point], [x]))
    convolution = helper.make_node("Conv", [x, weights, bias], [result], names.new_node(result))
    convolution.attribute.extend(layer.proto.attribute)
    return [*nodes, convolution]
