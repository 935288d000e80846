"""Decides which convolutions reuse can compute; each one it cannot gets the sentence that says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto

from reuse_compiler.graph.constants import Constant, ConstantFinder, NotConstantError
from reuse_compiler.graph.shapes import ShapeTable
from reuse_compiler.graph.tensors import element_name, to_tensor
from reuse_compiler.passes.check_quantised import check_quantised
from reuse_compiler.passes.conv_node import read_spec
from reuse_compiler.passes.layer import ConvLayer, IntegerLayer, Layer, Normalization, QuantisedLayer, Refusal
from reuse_compiler.reuse.geometry import ByteOperator

DEEPEST_BODY = 24
"""Protobuf reads 100 messages inside one another, three for each body; what a rewritten layer declares lies deeper."""


def check_legality(layer: Layer, constants: ConstantFinder, shapes: ShapeTable) -> Layer:
    """Returns the layer as a ConvLayer that fits the operators' contract, or with the reason why it does not."""
    if layer.refusal is not None:
        return layer
    try:
        return _conv_layer(layer, constants, shapes)
    except Refusal as refusal:
        return replace(layer, refusal=str(refusal))


def _conv_layer(layer: Layer, constants: ConstantFinder, shapes: ShapeTable) -> ConvLayer:
    depth = len(layer.ref.scope.path) // 2
    if depth > DEEPEST_BODY:
        raise Refusal(f"it stands in a body {depth} levels deep; reuse reaches down to level {DEEPEST_BODY}")
    operands = layer.quantised and check_quantised(layer, layer.quantised, constants, shapes)
    if operands:
        weight, bias = operands.weight, operands.bias
    else:
        weight, bias = _constants(layer, constants)
        _check_element_types(weight, bias)
    dims = list(weight.tensor.dims)
    spec = read_spec(layer.proto, dims)
    if bias is not None and list(bias.tensor.dims) != dims[:1]:
        raise Refusal(f"it is malformed: its bias has shape {list(bias.tensor.dims)} for {dims[0]} output channels")
    if layer.normalization is not None and len(layer.normalization.scale) != dims[0]:
        raise Refusal(f"it is malformed: {len(layer.normalization.scale)} channels of its {dims[0]} are normalized")
    shape = shapes.of(layer.ref.scope.path, layer.input)
    if shape is None:
        shape = (None,) * len(dims)
    if len(shape) != len(dims):
        raise Refusal(f"it is malformed: its input has {len(shape)} dimensions, its weights have {len(dims)}")
    if shape[1] not in (None, spec.in_channels):
        raise Refusal(f"it is malformed: its input has {shape[1]} channels, its weights are for {spec.in_channels}")
    if spec.group > 1 and spec.group_in_channels == 1:
        raise Refusal("it is depthwise (one input channel per group), so there are no sub-vectors of channels to share")
    described: dict[str, Any] = {**vars(layer), "spec": spec.on(shape), "weight": weight, "bias": bias}
    found = ConvLayer(**described)
    if operands and layer.quantised:
        by: ByteOperator = "QLinearConv"
        if not layer.quantised.gives_bytes:
            by = "Conv" if layer.proto.op_type == "Conv" else "ConvInteger"
        described["spec"] = replace(found.spec, element=operands.element, bytes_by=by)
        kind = QuantisedLayer if layer.quantised.gives_bytes else IntegerLayer
        found = kind(**described, constants=operands.constants, fed=operands.fed)
    if None not in (shape[0], *shape[2:]) and found.spec.rows == 0:
        return replace(found, refusal=f"its output is empty for an input of shape {list(shape)}")
    return found if layer.normalization is None else _normalized(found, layer.normalization)


def _normalized(layer: ConvLayer, normalization: Normalization) -> ConvLayer:
    """Returns the layer with weights and bias that also normalize its result, as onnxruntime does with a Conv.

    The BatchNormalization's node stays in the graph until the layer is lowered, so one that stays dense is as it was.
    """
    weight = layer.weight.array.astype(np.float64)
    bias = 0.0 if layer.bias is None else layer.bias.array.astype(np.float64)
    scale = normalization.scale.reshape(-1, *[1] * (weight.ndim - 1))
    new_bias = bias * normalization.scale + normalization.shift
    return replace(
        layer,
        weight=Constant(to_tensor((weight * scale).astype(np.float32), "weights"), in_graph=False),
        bias=Constant(to_tensor(new_bias.astype(np.float32), "bias"), in_graph=False),
    )


def _constants(layer: Layer, constants: ConstantFinder) -> tuple[Constant, Constant | None]:
    """Returns weights and bias, which must be the same in every run."""
    inputs = layer.ref.node.inputs
    if not 2 <= len(inputs) <= 3 or len(layer.proto.output) != 1 or inputs[0].is_empty() or inputs[1].is_empty():
        raise Refusal("it is malformed: a Conv has an input, weights, an optional bias and one output")
    found = []
    for what, tensor in zip(("weights", "bias"), inputs[1:], strict=False):
        if tensor.is_empty():
            continue
        try:
            found.append(constants.find(tensor, layer.ref.scope))
        except NotConstantError as error:
            raise Refusal(f"its {what} must be constant, but '{tensor.name}' {error}") from error
    return found[0], found[1] if len(found) == 2 else None


def _check_element_types(*constants: Constant | None) -> None:
    for constant in filter(None, constants):
        if constant.tensor.data_type != TensorProto.FLOAT:
            element = element_name(constant.tensor.data_type)
            raise Refusal(f"its element type is {element}; reuse works on float (32 bits)")
