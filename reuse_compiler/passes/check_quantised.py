"""Decides which convolutions of bytes the operators QLinearReuseConv and ReuseConvInteger take, and their operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from reuse_compiler.graph.constants import Constant, ConstantFinder, NotConstantError
from reuse_compiler.graph.shapes import ShapeTable
from reuse_compiler.graph.tensors import element_name, to_tensor
from reuse_compiler.passes.layer import (
    INTEGER_CONV_INPUTS,
    QLINEAR_CONV_INPUTS,
    ActivationNode,
    Layer,
    Quantised,
    Refusal,
)
from reuse_compiler.reuse.geometry import ElementType

BYTES: dict[int | None, ElementType] = {TensorProto.UINT8: "uint8", TensorProto.INT8: "int8"}
WORDS = {"x": "input", "w": "weights", "y": "result", "B": "bias"}
HAVE = {"x": "has", "w": "have", "y": "has"}
SCALE_ERROR = 1e-5
"""How far the scale of a bias may be from that of the products: it is rounded once or twice."""


@dataclass(frozen=True)
class ByteOperands:
    """The operands of a convolution of bytes; constants and fed tensors by the operator's names of its inputs."""

    element: ElementType
    """Of x."""
    weight: Constant
    bias: Constant | None
    constants: dict[str, Constant]
    fed: dict[str, str]
    """The tensors that only a run knows."""


def check_quantised(layer: Layer, quantised: Quantised, constants: ConstantFinder, shapes: ShapeTable) -> ByteOperands:
    """Returns the operands of what a layer becomes.

    Raises Refusal for those that must be constant and are not, and for what the operators do not have.
    """
    if "scale" in quantised.tensors:
        return _scaled_operands(layer, quantised, constants, shapes)
    found = {name: _constant(name, quantised, layer, constants) for name in quantised.tensors if name != "x"}
    found.setdefault("w_zero_point", _zero("w", found["w"].tensor.data_type))
    for name in ("x", "w", "y") if quantised.gives_bytes else ("x", "w"):
        _check_scale(name, found, quantised)
    products = found["x_scale"].array.reshape(()) * found["w_scale"].array.reshape(-1)
    _check_bias(found, products)
    if quantised.gives_bytes:
        if layer.activation is not None:
            _check_activation(layer.activation, found)
        if "B" in found:
            found["B"] = _integer_bias(found["B"], products)
        return _operands(QLINEAR_CONV_INPUTS, found)
    found["scale"] = Constant(to_tensor(products, "scale"), in_graph=False)
    if "B_scale" in found:
        floats = found["B"].array.astype(np.float32) * found["B_scale"].array.reshape(-1)
        found["B"] = Constant(to_tensor(floats, "B"), in_graph=False)
    found["w_zero_point"] = _single(found["w_zero_point"])
    return _operands(INTEGER_CONV_INPUTS, found)


def _scaled_operands(layer: Layer, quantised: Quantised, constants: ConstantFinder, shapes: ShapeTable) -> ByteOperands:
    """Returns the operands of a ConvInteger; only a run may know its scale and the zero point of x."""
    path, tensors = layer.ref.scope.path, quantised.tensors
    names = [name for name in ("w", "w_zero_point", "B") if name in tensors]
    found = {name: _constant(name, quantised, layer, constants) for name in names}
    types = {"x": shapes.element_of(path, tensors["x"].name), "w": found["w"].tensor.data_type}
    for name, element in types.items():
        if element not in BYTES:
            known = "a type that is not known" if element is None else element_name(element)
            raise Refusal(f"its {WORDS[name]} {HAVE[name]} elements of {known}; reuse covers uint8 and int8")
        found.setdefault(f"{name}_zero_point", _zero(name, element))
    fed = {}
    for name in ("x_zero_point", "scale"):
        if name in tensors:
            try:
                found[name] = constants.find(tensors[name], layer.ref.scope)
            except NotConstantError:
                fed[name] = tensors[name].name
    dims, scale = found["w"].tensor.dims, tensors["scale"].name
    if not is_by_channel(shapes.of(path, scale), len(dims), dims[0]):
        raise Refusal(
            f"its result is multiplied with '{scale}', which must be one value, or one for each output channel"
        )
    if "B" in found:
        values = np.broadcast_to(found["B"].array.reshape(-1), dims[:1])
        found["B"] = Constant(to_tensor(np.array(values), "B"), in_graph=False)
    found["w_zero_point"] = _single(found["w_zero_point"])
    return _operands(INTEGER_CONV_INPUTS, found, fed)


def _operands(names: Sequence[str], found: Mapping[str, Constant], fed: dict[str, str] | None = None) -> ByteOperands:
    """Returns the operands of the operator with these inputs; what is fed comes before what is found."""
    own = {name: constant for name, constant in found.items() if name in names and name not in (fed or {})}
    weight, bias = own.pop("w"), own.pop("B", None)
    return ByteOperands(BYTES[found["x_zero_point"].tensor.data_type], weight, bias, own, fed or {})


def is_by_channel(shape: Sequence[int | None] | None, rank: int, channels: int) -> bool:
    """Tells whether a tensor of that shape has, beside one of `rank` dimensions, one value, or one for each channel."""
    if shape is None or len(shape) > rank:
        return False
    sizes = [1] * (rank - len(shape)) + list(shape)
    return sizes.pop(1) in (1, channels) and all(size == 1 for size in sizes)


def _zero(name: str, element: int | None) -> Constant:
    """Returns the zero point that `x` or `w` of that type has if none is given."""
    return Constant(TensorProto(name=f"{name}_zero_point", data_type=element, raw_data=bytes(1)), in_graph=False)


def _single(zero_point: Constant) -> Constant:
    """Returns the one zero point that all channels of the weights have."""
    values = zero_point.array.reshape(-1)
    if values.size == 1:
        return zero_point
    if (values != values[0]).any():
        raise Refusal("its result is floats, and its weights have several zero points; reuse covers one")
    return Constant(to_tensor(values[0], "w_zero_point"), in_graph=False)


def _constant(name: str, quantised: Quantised, layer: Layer, constants: ConstantFinder) -> Constant:
    tensor = quantised.tensors[name]
    try:
        return constants.find(tensor, layer.ref.scope)
    except NotConstantError as error:
        what, _, part = name.partition("_")
        words = f"its {WORDS[what]}" if not part else f"the {part.replace('_', ' ')} of its {WORDS[what]}"
        raise Refusal(f"{words} must be constant, but '{tensor.name}' {error}") from error


def _check_scale(name: str, found: Mapping[str, Constant], quantised: Quantised) -> None:
    """Checks a tensor's scale and zero point."""
    if f"{name}_zero_point" not in found:
        raise Refusal(f"its {WORDS[name]} has no zero point, which would tell the type; give one of 0")
    scale, zero_point = (found[f"{name}_{part}"] for part in ("scale", "zero_point"))
    types = {zero_point.tensor.data_type, *([found["w"].tensor.data_type] if name == "w" else [])}
    if len(types) != 1 or not types <= BYTES.keys():
        names = " and ".join(sorted(map(element_name, types)))
        raise Refusal(f"its {WORDS[name]} {HAVE[name]} elements of {names}; reuse covers uint8 and int8")
    if scale.tensor.data_type != TensorProto.FLOAT:
        raise Refusal(f"the scale of its {WORDS[name]} is not float (32 bits)")
    sizes, channels = {scale.array.size, zero_point.array.size} - {1}, found["w"].tensor.dims[0]
    if sizes and (name != "w" or sizes != {channels} or quantised.weight_axis % len(found["w"].tensor.dims)):
        allowed = "one scale, or one for each output channel" if name == "w" else "one scale"
        raise Refusal(f"its {WORDS[name]} {HAVE[name]} other than {allowed}")
    values = scale.array
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise Refusal(f"the scale of its {WORDS[name]} is not positive and finite")


def _check_activation(activation: ActivationNode, found: Mapping[str, Constant]) -> None:
    """Checks that the bytes of the result have no values that the activation would change."""
    function, kind = activation.function, activation.ref.proto.op_type
    scale, zero_point = (float(found[f"y_{part}"].array.reshape(())) for part in ("scale", "zero_point"))
    limits = np.iinfo(found["y_zero_point"].array.dtype)
    low, high = (np.rint(bound / scale) + zero_point for bound in (function.min, function.max))
    if function.alpha != 1.0 or low > limits.min or high < limits.max:
        raise Refusal(f"its result passes a {kind} before it is quantised that changes values which bytes have")


def _check_bias(found: Mapping[str, Constant], products: NDArray[np.float32]) -> None:
    """Checks that the bias is floats, or in units of the products."""
    if "B" not in found or (found["B"].tensor.data_type == TensorProto.FLOAT and "B_scale" not in found):
        return
    if found["B"].tensor.data_type != TensorProto.INT32:
        raise Refusal("its bias is neither float (32 bits) nor quantised to int32")
    if "B_scale" in found and not np.allclose(found["B_scale"].array.reshape(-1), products, SCALE_ERROR, 0.0):
        raise Refusal("its bias has another scale than the products of input and weights")
    if "B_zero_point" in found and found["B_zero_point"].array.any():
        raise Refusal("its bias has a zero point other than 0")


def _integer_bias(bias: Constant, products: NDArray[np.float32]) -> Constant:
    """Returns a bias in units of the products; one of floats is quantised as onnxruntime does it."""
    if bias.tensor.data_type == TensorProto.INT32:
        return bias
    limits = np.iinfo(np.int32)
    rounded = np.rint(bias.array.astype(np.float64) / products).clip(limits.min, limits.max)
    return Constant(to_tensor(rounded.astype(np.int32), "B"), in_graph=False)
