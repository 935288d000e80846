"""Finds what makes a convolution one of bytes.

It is ONNX's QLinearConv, or a Conv between DequantizeLinear and QuantizeLinear: onnxruntime computes the second as the
first. A Relu or Clip before the QuantizeLinear is part of what that does, if it has the limits of the bytes
(check_quantised.py looks at that). Or its result is floats: a Conv behind DequantizeLinear, whatever comes after it,
or a ConvInteger whose result a Cast and a Mul with a scale make floats, as onnxruntime's quantize_dynamic writes it.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_graphsurgeon as gs
from onnx import TensorProto

from reuse_compiler.graph.constants import ConstantFinder, NotConstantError
from reuse_compiler.graph.view import GraphView, NodeRef
from reuse_compiler.passes.check_quantised import is_by_channel
from reuse_compiler.passes.layer import QLINEAR_CONV_INPUTS, Layer, Quantised, Refusal

QUANTISATION_AXIS = 1
"""Of DequantizeLinear, unless it has another."""
INTEGER_INPUTS = ("x", "w", "x_zero_point", "w_zero_point")
"""Of ConvInteger."""


def match_quantised(layer: Layer, view: GraphView, constants: ConstantFinder) -> Layer:
    """Returns the layer with what makes it one of bytes, if it is one.

    Raises Refusal for a convolution that onnxruntime runs in integers, but that is none of these.
    """
    inputs = layer.ref.node.inputs
    if layer.proto.op_type == "QLinearConv":
        needed = len(QLINEAR_CONV_INPUTS) - 1
        if not needed <= len(inputs) <= needed + 1 or any(tensor.is_empty() for tensor in inputs[:needed]):
            raise Refusal(f"it is malformed: a QLinearConv has {needed} inputs and an optional bias")
        return replace(layer, quantised=Quantised(_names(QLINEAR_CONV_INPUTS, inputs)))
    if layer.proto.op_type == "ConvInteger":
        return replace(layer, quantised=_scaled(layer, view, constants))
    x = _dequantised(inputs[0], view) if inputs else None
    if x is None:
        return layer
    weight = _dequantised(inputs[1], view) if len(inputs) > 1 else None
    if weight is None:
        raise Refusal("it is quantised: a DequantizeLinear computes its input, but not its weights")
    after = view.only_reader(layer.taken_in[-1])
    if after is None or after.proto.op_type != "QuantizeLinear" or not _keeps_bytes(layer):
        after, layer = None, replace(layer, normalization=None, activation=None)
    for ref in (x, weight, *([after] if after else [])):
        _check_attributes(ref)
    tensors = {**_named("x", x), **_named("w", weight)}
    tensors |= {f"y_{name}": tensor for name, tensor in _parameters(after).items()} if after else {}
    if len(inputs) > 2 and not inputs[2].is_empty():
        bias = _dequantised(inputs[2], view)
        tensors |= {"B": inputs[2]} if bias is None else _named("B", bias)
    axis = _integer(weight, "axis", QUANTISATION_AXIS)
    return replace(layer, quantised=Quantised(tensors, axis, [after] if after else []))


def _keeps_bytes(layer: Layer) -> bool:
    """Tells whether what stands between a Conv and its QuantizeLinear may be a part of that: limits."""
    return layer.normalization is None and (layer.activation is None or layer.activation.function.alpha == 1.0)


def _scaled(layer: Layer, view: GraphView, constants: ConstantFinder) -> Quantised:
    """Returns what is known of a ConvInteger and the nodes that make its result floats."""
    inputs = layer.ref.node.inputs
    if not 2 <= len(inputs) <= len(INTEGER_INPUTS) or any(tensor.is_empty() for tensor in inputs[:2]):
        raise Refusal("it is malformed: a ConvInteger has 2 to 4 inputs")
    cast = view.only_reader(layer.ref)
    if cast is None or cast.proto.op_type != "Cast" or _integer(cast, "to", 0) != TensorProto.FLOAT:
        raise Refusal("it is an integer convolution, and its result does not become float (32 bits) by a Cast")
    scaling = view.only_reader(cast)
    if scaling is None or scaling.proto.op_type != "Mul":
        raise Refusal("it is an integer convolution, and no Mul with a scale takes its result behind the Cast")
    tensors = {**_names(INTEGER_INPUTS, inputs), "scale": _other(scaling, cast)}
    adding = view.only_reader(scaling)
    if adding is not None and adding.proto.op_type == "Add":
        bias = _other(adding, scaling)
        try:
            found = constants.find(bias, adding.scope).tensor
            channels, *kernel = constants.find(inputs[1], layer.ref.scope).tensor.dims
        except NotConstantError:
            return Quantised(tensors, after=[cast, scaling])
        if found.data_type == TensorProto.FLOAT and is_by_channel(found.dims, 1 + len(kernel), channels):
            return Quantised({**tensors, "B": bias}, after=[cast, scaling, adding])
    return Quantised(tensors, after=[cast, scaling])


def _other(ref: NodeRef, before: NodeRef) -> gs.Tensor:
    """Returns the operand of a binary node that another node does not compute."""
    first, second = ref.node.inputs
    return second if first is before.node.outputs[0] else first


def _names(names: tuple[str, ...], inputs: list[gs.Tensor]) -> dict[str, gs.Tensor]:
    return {name: tensor for name, tensor in zip(names, inputs, strict=False) if not tensor.is_empty()}


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
        raise Refusal(f"it is quantised in blocks: '{ref.proto.name}' has a block_size, which reuse does not cover")


def _integer(ref: NodeRef, name: str, default: int) -> int:
    return next((attribute.i for attribute in ref.proto.attribute if attribute.name == name), default)
