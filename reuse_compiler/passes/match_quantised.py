"""Finds what makes a convolution one of bytes: ONNX's QLinearConv, or Conv between DequantizeLinear and QuantizeLinear.

onnxruntime computes the second as the first. A Relu or Clip before the QuantizeLinear is part of what that does, if it
has the limits of the bytes (check_quantised.py looks at that).
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from reuse_compiler.graph.view import GraphView, NodeRef
from reuse_compiler.passes.layer import QLINEAR_CONV_INPUTS, Layer, Quantised, Refusal

QUANTISATION_AXIS = 1
"""Of DequantizeLinear, unless it has another."""


def match_quantised(layer: Layer, view: GraphView) -> Quantised | None:
    """Returns what makes the layer one of bytes, or None for one of floats.

    Raises Refusal for a convolution that onnxruntime runs in integers, but that is no QLinearConv.
    """
    inputs = layer.ref.node.inputs
    if layer.proto.op_type == "QLinearConv":
        needed = len(QLINEAR_CONV_INPUTS) - 1
        if not needed <= len(inputs) <= needed + 1 or any(tensor.is_empty() for tensor in inputs[:needed]):
            raise Refusal(f"it is malformed: a QLinearConv has {needed} inputs and an optional bias")
        return Quantised({n: t for n, t in zip(QLINEAR_CONV_INPUTS, inputs, strict=False) if not t.is_empty()})
    x = _dequantised(inputs[0], view) if inputs else None
    if x is None:
        return None
    weight = _dequantised(inputs[1], view) if len(inputs) > 1 else None
    if weight is None:
        raise Refusal("it is quantised: a DequantizeLinear computes its input, but not its weights")
    last = layer.taken_in[-1]
    after = view.only_reader(last)
    if after is None or after.proto.op_type != "QuantizeLinear":
        raise Refusal("it is quantised: a DequantizeLinear computes its input, but no QuantizeLinear takes its result")
    if layer.normalization is not None:
        raise Refusal("it is quantised, and a BatchNormalization stands before its QuantizeLinear; fold it first")
    for ref in (x, weight, after):
        _check_attributes(ref)
    tensors = {**_named("x", x), **_named("w", weight)}
    tensors |= {f"y_{name}": tensor for name, tensor in _parameters(after).items()}
    if len(inputs) > 2 and not inputs[2].is_empty():
        bias = _dequantised(inputs[2], view)
        tensors |= {"B": inputs[2]} if bias is None else _named("B", bias)
    return Quantised(tensors, _integer(weight, "axis", QUANTISATION_AXIS), after)


def _dequantised(tensor: gs.Tensor, view: GraphView) -> NodeRef | None:
    """Returns the DequantizeLinear that computes a tensor, or None."""
    producer = view.producer(tensor)
    return producer if producer is not None and producer.is_standard("DequantizeLinear") else None


def _named(name: str, ref: NodeRef) -> dict[str, gs.Tensor]:
    """Returns the tensor that a node dequantises, its scale and its zero point, if there is one."""
    return {name: ref.node.inputs[0], **{f"{name}_{part}": tensor for part, tensor in _parameters(ref).items()}}


def _parameters(ref: NodeRef) -> dict[str, gs.Tensor]:
    named = zip(("scale", "zero_point"), ref.node.inputs[1:], strict=False)
    return {name: tensor for name, tensor in named if not tensor.is_empty()}


def _check_attributes(ref: NodeRef) -> None:
    if _integer(ref, "block_size", 0):
        raise Refusal(f"it is quantised in blocks: '{ref.proto.name}' has a block_size, which QLinearConv has not")


def _integer(ref: NodeRef, name: str, default: int) -> int:
    return next((attribute.i for attribute in ref.proto.attribute if attribute.name == name), default)
