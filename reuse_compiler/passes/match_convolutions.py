"""Finds every convolution of a model and the activation that can be computed with it."""

from __future__ import annotations

import math

import numpy as np
import onnx

from reuse_compiler.graph.constants import NotConstantError
from reuse_compiler.graph.names import Names
from reuse_compiler.graph.structure import STANDARD_DOMAINS
from reuse_compiler.graph.tensors import to_array
from reuse_compiler.graph.view import NodeRef
from reuse_compiler.passes.base import Pass, PassContext
from reuse_compiler.passes.convolution_operators import declined_operator, is_convolution
from reuse_compiler.passes.inline_functions import functions_with_convolutions
from reuse_compiler.passes.layer import Activation, Layer

CLIP_INPUTS_SINCE_OPSET = 11
"""From this opset on, Clip's bounds are inputs; before, attributes."""
DEFAULT_LEAKY_RELU_ALPHA = 0.01
FLOAT32_MAX = float(np.finfo(np.float32).max)


class MatchConvolutions(Pass):
    """Requires nothing. Ensures `context.layers`: every Conv-like node with a name of its own, in graph order."""

    def run(self, context: PassContext) -> bool:
        context.layers = [_match(ref, context) for ref in _convolutions(context)]
        _name_layers(context)
        return False

    def ensures(self, context: PassContext) -> str | None:
        names = [layer.name for layer in context.layers or []]
        return None if len(names) == len(set(names)) else "two layers have the same name"


def _convolutions(context: PassContext) -> list[NodeRef]:
    """Returns Conv-like nodes, and calls of functions that hold some but could not be inlined."""
    functions = functions_with_convolutions(context.model)
    return [
        ref
        for ref in context.view.nodes()
        if is_convolution(ref.proto) or (ref.proto.domain, ref.proto.op_type) in functions
    ]


def _match(ref: NodeRef, context: PassContext) -> Layer:
    if not is_convolution(ref.proto):
        refusal = "it calls a function with convolutions that cannot be inlined, as it was written for another opset"
        return Layer("", ref, refusal=refusal)
    layer = Layer("", ref, refusal=declined_operator(ref.proto))
    if layer.refusal is None and len(ref.node.outputs) == 1:
        layer.activation = _activation(ref, context)
    return layer


def _name_layers(context: PassContext) -> None:
    """Names layers after their node, or the tensor it computes, with `#2` and so on where that is taken."""
    names = Names(context.model)
    for layer in context.layers or []:
        names.release_node(layer.proto.name)
    for layer in context.layers or []:
        layer.name = names.new_node(layer.proto.name or next(iter(layer.proto.output), "") or layer.proto.op_type)


def _activation(conv: NodeRef, context: PassContext) -> Activation | None:
    """Returns the activation that alone reads the Conv's result, which nothing else sees; else None."""
    output = conv.node.outputs[0]
    consumers = context.view.consumers(output)
    if len(consumers) != 1 or context.view.is_output(output.name, conv.scope):
        return None
    ref = consumers[0]
    standard = ref.proto.domain in STANDARD_DOMAINS
    if not standard or ref.scope is not conv.scope or ref.node.inputs[0] is not output or len(ref.node.outputs) != 1:
        return None
    if ref.proto.op_type == "Relu":
        return Activation(ref, "Relu", ())
    if ref.proto.op_type == "LeakyRelu":
        return Activation(ref, "LeakyRelu", (_float_attribute(ref.proto, "alpha", DEFAULT_LEAKY_RELU_ALPHA),))
    if ref.proto.op_type == "Clip":
        bounds = _clip_bounds(ref, context)
        return Activation(ref, "Clip", bounds) if bounds else None
    return None


def _clip_bounds(clip: NodeRef, context: PassContext) -> tuple[float, float] | None:
    """Returns Clip's (min, max), or None if they are not constant."""
    if context.view.opset < CLIP_INPUTS_SINCE_OPSET:
        low = _float_attribute(clip.proto, "min", -FLOAT32_MAX)
        return low, _float_attribute(clip.proto, "max", FLOAT32_MAX)
    bounds = [-math.inf, math.inf]
    for index, tensor in enumerate(clip.node.inputs[1:3]):
        if tensor.is_empty():
            continue
        try:
            value = to_array(context.constants.find(tensor, clip.scope).tensor)
        except NotConstantError:
            return None
        if value.size != 1:
            return None
        bounds[index] = float(value.reshape(()))
    return bounds[0], bounds[1]


def _float_attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    return next((float(attribute.f) for attribute in node.attribute if attribute.name == name), default)
