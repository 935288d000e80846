"""Decides which convolutions reuse can compute; each one it cannot gets the sentence that says why."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, cast

from onnx import TensorProto

from reuse_compiler.graph.constants import NotConstantError
from reuse_compiler.graph.shapes import Shape
from reuse_compiler.passes.base import Pass, PassContext
from reuse_compiler.passes.layer import ConvAttributes, Layer
from reuse_compiler.reuse.geometry import AutoPad, ConvGeometry

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


class CheckLegality(Pass):
    """Requires matched layers and shapes.

    Ensures that a layer either has a refusal, or weights, attributes and geometry that fit the operators' contract.
    """

    def requires(self, context: PassContext) -> str | None:
        return "layers or shapes are missing" if context.layers is None or context.shapes is None else None

    def run(self, context: PassContext) -> bool:
        for layer in context.chosen:
            layer.refusal = next(filter(None, (rule(layer, context) for rule in RULES)), None)
        return False

    def ensures(self, context: PassContext) -> str | None:
        incomplete = [layer.name for layer in context.chosen if layer.weight is None or layer.geometry is None]
        return f"layers {incomplete} are legal but incomplete" if incomplete else None


def _constants(layer: Layer, context: PassContext) -> str | None:
    """Weights and bias are the same in every run."""
    inputs = layer.ref.node.inputs
    if not 2 <= len(inputs) <= 3 or len(layer.proto.output) != 1 or inputs[0].is_empty() or inputs[1].is_empty():
        return "it is malformed: a Conv has an input, weights, an optional bias and one output"
    for what, index in (("weights", 1), ("bias", 2)):
        if len(inputs) <= index or inputs[index].is_empty():
            continue
        try:
            constant = context.constants.find(inputs[index], layer.ref.scope)
        except NotConstantError as error:
            return f"its {what} must be constant, but '{inputs[index].name}' {error}"
        setattr(layer, "weight" if index == 1 else "bias", constant)
    return None


def _quantised(layer: Layer, context: PassContext) -> str | None:
    """Convolutions between DequantizeLinear and QuantizeLinear belong to onnxruntime's integer kernels."""
    producer = context.view.producer(layer.ref.node.inputs[0])
    if producer is not None and producer.proto.op_type == "DequantizeLinear":
        return "it is quantised: a DequantizeLinear computes its input, so onnxruntime runs it in integers"
    return None


def _element_type(layer: Layer, context: PassContext) -> str | None:
    for constant in filter(None, (layer.weight, layer.bias)):
        if constant.tensor.data_type != TensorProto.FLOAT:
            element = TensorProto.DataType.Name(constant.tensor.data_type).lower()
            return f"its element type is {element}; reuse works on float (32 bits)"
    return None


def _dimensions(layer: Layer, context: PassContext) -> str | None:
    rank = len(_weight_dims(layer)) - 2
    if rank == 3:
        return "it is a 3-D convolution; reuse covers 1-D and 2-D"
    if rank not in (1, 2):
        return f"it is malformed: its weights have {rank + 2} dimensions, a 2-D convolution's have 4"
    if prod(_weight_dims(layer)) == 0:
        return "its weights have no elements"
    return None


def _attributes(layer: Layer, context: PassContext) -> str | None:
    """Reads the attributes; those that contradict the weights are malformed."""
    rank = len(_weight_dims(layer)) - 2
    given = {attribute.name: attribute for attribute in layer.proto.attribute}

    def integers(name: str, default: list[int]) -> list[int]:
        return list(given[name].ints) or default if name in given else default

    kernel = integers("kernel_shape", _weight_dims(layer)[2:])
    strides, dilations = integers("strides", [1] * rank), integers("dilations", [1] * rank)
    pads = integers("pads", [0] * 2 * rank)
    group = given["group"].i if "group" in given else 1
    auto_pad = given["auto_pad"].s.decode("utf-8", "replace") if "auto_pad" in given else "NOTSET"
    if kernel != _weight_dims(layer)[2:]:
        return f"it is malformed: kernel_shape {kernel} is not that of its weights {_weight_dims(layer)}"
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank or auto_pad not in AUTO_PADS:
        return f"it is malformed: strides, dilations, pads or auto_pad do not fit a {rank}-D convolution"
    if min(*strides, *dilations, group) < 1:
        return "it is malformed: strides, dilations and group must be at least 1"
    if auto_pad == "NOTSET" and min(pads) < 0:
        return f"its pads {pads} are negative, which crops the input; put a Slice before it instead"
    if rank == 1:
        kernel, strides, dilations, pads = [1, *kernel], [1, *strides], [1, *dilations], [0, pads[0], 0, pads[1]]
    layer.attributes = ConvAttributes(
        kernel_shape=(int(kernel[0]), int(kernel[1])),
        strides=(int(strides[0]), int(strides[1])),
        pads=(int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3])),
        dilations=(int(dilations[0]), int(dilations[1])),
        group=int(group),
        auto_pad=cast(AutoPad, auto_pad),
        one_dimensional=rank == 1,
    )
    return None


def _channels(layer: Layer, context: PassContext) -> str | None:
    dims, group = _weight_dims(layer), _known(layer.attributes).group
    if dims[0] % group:
        return f"it is malformed: its {dims[0]} output channels cannot be divided into {group} groups"
    if layer.bias is not None and list(layer.bias.tensor.dims) != [dims[0]]:
        return f"it is malformed: its bias has shape {list(layer.bias.tensor.dims)} for {dims[0]} output channels"
    if layer.normalization is not None and len(layer.normalization.scale) != dims[0]:
        return f"it is malformed: {len(layer.normalization.scale)} channels of its {dims[0]} are normalized"
    shape = _input_shape(layer, context)
    if shape is not None and len(shape) != len(dims):
        return f"it is malformed: its input has {len(shape)} dimensions, its weights have {len(dims)}"
    if shape is not None and shape[1] not in (None, dims[1] * group):
        return f"it is malformed: its input has {shape[1]} channels, its weights are for {dims[1] * group}"
    if group > 1 and dims[1] == 1:
        return "it is depthwise (one input channel per group), so there are no sub-vectors of channels to share"
    return None


def _geometry(layer: Layer, context: PassContext) -> str | None:
    """Fills in the geometry, with zeros for a size that shape inference could not tell."""
    attributes, dims = _known(layer.attributes), _weight_dims(layer)
    shape = _input_shape(layer, context) or (None,) * len(dims)
    sizes = [shape[0], 1 if attributes.one_dimensional else shape[2], shape[-1]]
    batch, height, width = (0, 0, 0) if None in sizes else cast("list[int]", sizes)
    pads = ConvGeometry.resolve_pads(
        attributes.auto_pad,
        attributes.pads,
        (height, width),
        attributes.kernel_shape,
        attributes.strides,
        attributes.dilations,
    )
    layer.geometry = ConvGeometry(
        batch,
        dims[1] * attributes.group,
        height,
        width,
        dims[0],
        attributes.kernel_shape,
        attributes.strides,
        pads,
        attributes.dilations,
        attributes.group,
    )
    if None not in sizes and layer.geometry.rows == 0:
        return f"its output is empty for an input of shape {list(shape)}"
    return None


Rule = Callable[[Layer, PassContext], str | None]
RULES: tuple[Rule, ...] = (_constants, _quantised, _element_type, _dimensions, _attributes, _channels, _geometry)
"""In this order: each relies on what those before it found. A rule returns the refusal or None."""


def _weight_dims(layer: Layer) -> list[int]:
    return list(_known(layer.weight).tensor.dims)


def _input_shape(layer: Layer, context: PassContext) -> Shape | None:
    assert context.shapes is not None
    return context.shapes.of(layer.ref.scope.path, layer.ref.node.inputs[0].name)


def _known(value: Any) -> Any:
    """Returns a value that an earlier rule or pass has filled in."""
    assert value is not None
    return value
