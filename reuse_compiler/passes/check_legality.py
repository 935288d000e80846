"""Decides which convolutions reuse can compute; each one it cannot gets the sentence that says why."""

from __future__ import annotations

from onnx import TensorProto

from reuse_compiler.graph.constants import Constant, NotConstantError
from reuse_compiler.passes.base import Pass, PassContext
from reuse_compiler.passes.conv_node import Refusal, read_spec
from reuse_compiler.passes.layer import ConvLayer, Layer


class CheckLegality(Pass):
    """Requires matched layers and shapes.

    Ensures that a layer either has a refusal, or weights, bias and a description that fit the operators' contract.
    """

    def requires(self, context: PassContext) -> str | None:
        return "layers or shapes are missing" if context.layers is None or context.shapes is None else None

    def run(self, context: PassContext) -> bool:
        context.layers = [layer if layer.refusal else _read(layer, context) for layer in context.layers or []]
        return False

    def ensures(self, context: PassContext) -> str | None:
        accepted = [layer.name for layer in context.layers or [] if layer.refusal is None]
        incomplete = set(accepted) - {layer.name for layer in context.chosen}
        return f"layers {sorted(incomplete)} are legal but incomplete" if incomplete else None


def _read(layer: Layer, context: PassContext) -> Layer:
    """Returns the layer with what its node and constants say, or with the refusal."""
    try:
        return _conv_layer(layer, context)
    except Refusal as refusal:
        layer.refusal = str(refusal)
        return layer


def _conv_layer(layer: Layer, context: PassContext) -> ConvLayer:
    assert context.shapes is not None
    weight, bias = _constants(layer, context)
    _check_element_types(layer, context, weight, bias)
    dims = list(weight.tensor.dims)
    spec = read_spec(layer.proto, dims)
    if bias is not None and list(bias.tensor.dims) != dims[:1]:
        raise Refusal(f"it is malformed: its bias has shape {list(bias.tensor.dims)} for {dims[0]} output channels")
    if layer.normalization is not None and len(layer.normalization.scale) != dims[0]:
        raise Refusal(f"it is malformed: {len(layer.normalization.scale)} channels of its {dims[0]} are normalized")
    shape = context.shapes.of(layer.ref.scope.path, layer.input)
    if shape is None:
        shape = (None,) * len(dims)
    if len(shape) != len(dims):
        raise Refusal(f"it is malformed: its input has {len(shape)} dimensions, its weights have {len(dims)}")
    if shape[1] not in (None, spec.in_channels):
        raise Refusal(f"it is malformed: its input has {shape[1]} channels, its weights are for {spec.in_channels}")
    if spec.group > 1 and spec.group_in_channels == 1:
        raise Refusal("it is depthwise (one input channel per group), so there are no sub-vectors of channels to share")
    found = ConvLayer(**vars(layer), spec=spec.on(shape), weight=weight, bias=bias)
    if None not in (shape[0], *shape[2:]) and found.spec.rows == 0:
        found.refusal = f"its output is empty for an input of shape {list(shape)}"
    return found


def _constants(layer: Layer, context: PassContext) -> tuple[Constant, Constant | None]:
    """Returns weights and bias, which must be the same in every run."""
    inputs = layer.ref.node.inputs
    if not 2 <= len(inputs) <= 3 or len(layer.proto.output) != 1 or inputs[0].is_empty() or inputs[1].is_empty():
        raise Refusal("it is malformed: a Conv has an input, weights, an optional bias and one output")
    found = []
    for what, tensor in zip(("weights", "bias"), inputs[1:], strict=False):
        if tensor.is_empty():
            continue
        try:
            found.append(context.constants.find(tensor, layer.ref.scope))
        except NotConstantError as error:
            raise Refusal(f"its {what} must be constant, but '{tensor.name}' {error}") from error
    return found[0], found[1] if len(found) == 2 else None


def _check_element_types(layer: Layer, context: PassContext, *constants: Constant | None) -> None:
    """Convolutions between DequantizeLinear and QuantizeLinear belong to onnxruntime's integer kernels."""
    producer = context.view.producer(layer.ref.node.inputs[0])
    if producer is not None and producer.proto.op_type == "DequantizeLinear":
        raise Refusal("it is quantised: a DequantizeLinear computes its input, so onnxruntime runs it in integers")
    for constant in filter(None, constants):
        if constant.tensor.data_type != TensorProto.FLOAT:
            element = TensorProto.DataType.Name(constant.tensor.data_type).lower()
            raise Refusal(f"its element type is {element}; reuse works on float (32 bits)")
