"""Finds every convolution of a model, and the normalization and the activation that can be computed with it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx

from reuse_compiler.graph.constants import ConstantFinder, NotConstantError
from reuse_compiler.graph.names import Names
from reuse_compiler.graph.view import GraphView, NodeRef
from reuse_compiler.passes.convolution_operators import declined_operator, is_convolution
from reuse_compiler.passes.inline_functions import functions_with_convolutions
from reuse_compiler.passes.layer import ActivationNode, Layer, Normalization, Refusal
from reuse_compiler.passes.match_quantised import match_quantised
from reuse_compiler.reuse.activation import RELU, Activation

CLIP_INPUTS_SINCE_OPSET = 11
"""From this opset on, Clip's bounds are inputs; before, attributes."""
DEFAULT_LEAKY_RELU_ALPHA = 0.01
DEFAULT_EPSILON = 1e-5
"""Of BatchNormalization."""
BATCH_NORM_INPUTS = 5
BATCH_NORM_INFERS_SINCE_OPSET = 7
"""Before, it computed statistics of its own unless told otherwise."""
FLOAT32_MAX = float(np.finfo(np.float32).max)


def match_convolutions(view: GraphView, constants: ConstantFinder) -> list[Layer]:
    """Returns every Conv-like node in graph order, each with a name of its own; nothing is known of their constants.

    They are named after their node, or the tensor it computes, with `#2` and so on where that is taken.
    """
    functions = functions_with_convolutions(view.model)
    found = [
        ref for ref in view.nodes() if is_convolution(ref.proto) or (ref.proto.domain, ref.proto.op_type) in functions
    ]
    names = Names(view.model)
    for ref in found:
        names.release_node(ref.proto.name)
    return [_match(ref, names, view, constants) for ref in found]


def _match(ref: NodeRef, names: Names, view: GraphView, constants: ConstantFinder) -> Layer:
    name = names.new_node(ref.proto.name or next(iter(ref.proto.output), "") or ref.proto.op_type)
    if not is_convolution(ref.proto):
        refusal = "it calls a function with convolutions that cannot be inlined, as it was written for another opset"
        return Layer(name, ref, refusal=refusal)
    layer = Layer(name, ref, refusal=declined_operator(ref.proto))
    if layer.refusal is not None or len(ref.node.outputs) != 1:
        return layer
    if ref.proto.op_type == "Conv":
        layer = replace(layer, normalization=_normalization(ref, view, constants))
        layer = replace(layer, activation=_activation(layer.taken_in[-1], view, constants))
    try:
        return match_quantised(layer, view, constants)
    except Refusal as refusal:
        return replace(layer, refusal=str(refusal))


def _normalization(conv: NodeRef, view: GraphView, constants: ConstantFinder) -> Normalization | None:
    """Returns the BatchNormalization of the Conv's result, if what it does is the same in every run."""
    ref = view.only_reader(conv)
    if ref is None or ref.proto.op_type != "BatchNormalization" or len(ref.node.inputs) != BATCH_NORM_INPUTS:
        return None
    if view.opset < BATCH_NORM_INFERS_SINCE_OPSET:
        return None
    # Further outputs, and attributes of old opsets, belong to training and to statistics by pixel.
    in_training = any(a.name == "training_mode" and a.i for a in ref.proto.attribute)
    by_pixel = any(a.name == "spatial" and not a.i for a in ref.proto.attribute)
    if in_training or by_pixel or len([name for name in ref.proto.output if name]) != 1:
        return None
    try:
        found = [constants.find(tensor, ref.scope) for tensor in ref.node.inputs[1:]]
    except NotConstantError:
        return None
    gamma, beta, mean, variance = (constant.array.astype(np.float64) for constant in found)
    if not gamma.shape == beta.shape == mean.shape == variance.shape or gamma.ndim != 1:
        return None
    scale = gamma / np.sqrt(variance + _float_attribute(ref.proto, "epsilon", DEFAULT_EPSILON))
    return Normalization(ref, scale, beta - mean * scale)


def _activation(last: NodeRef, view: GraphView, constants: ConstantFinder) -> ActivationNode | None:
    """Returns the activation of what the layer's last node computes, or None."""
    ref = view.only_reader(last)
    if ref is None or len(ref.node.outputs) != 1:
        return None
    found = None
    if ref.proto.op_type == "Relu":
        found = RELU
    elif ref.proto.op_type == "LeakyRelu":
        found = Activation(_float_attribute(ref.proto, "alpha", DEFAULT_LEAKY_RELU_ALPHA))
    elif ref.proto.op_type == "Clip":
        bounds = _clip_bounds(ref, view, constants)
        found = Activation(1.0, *bounds) if bounds else None
    # The operators have no NaN there; what it means is left to the node itself.
    return None if found is None or any(map(math.isnan, found)) else ActivationNode(ref, found)


def _clip_bounds(clip: NodeRef, view: GraphView, constants: ConstantFinder) -> tuple[float, float] | None:
    """Returns Clip's (min, max), or None if they are not constant."""
    if view.opset < CLIP_INPUTS_SINCE_OPSET:
        low = _float_attribute(clip.proto, "min", -FLOAT32_MAX)
        return low, _float_attribute(clip.proto, "max", FLOAT32_MAX)
    bounds = [-math.inf, math.inf]
    for index, tensor in enumerate(clip.node.inputs[1:3]):
        if tensor.is_empty():
            continue
        try:
            value = constants.find(tensor, clip.scope).array
        except NotConstantError:
            return None
        if value.size != 1:
            return None
        bounds[index] = float(value.reshape(()))
    return bounds[0], bounds[1]


def _float_attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    return next((float(attribute.f) for attribute in node.attribute if attribute.name == name), default)
