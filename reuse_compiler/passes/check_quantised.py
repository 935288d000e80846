"""Decides which quantised convolutions are one of ONNX's QLinearConv, as the operator QLinearReuseConv takes it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto

from reuse_compiler.graph.constants import Constant, ConstantFinder, NotConstantError
from reuse_compiler.graph.tensors import element_name, to_tensor
from reuse_compiler.passes.layer import QLINEAR_CONV_INPUTS, ActivationNode, Layer, Quantised, Refusal

BYTES = (TensorProto.UINT8, TensorProto.INT8)
WORDS = {"x": "input", "w": "weights", "y": "result", "B": "bias"}
HAVE = {"x": "has", "w": "have", "y": "has"}
SCALE_ERROR = 1e-5
"""How far the scale of a bias may be from that of the products: it is rounded once or twice."""


def check_quantised(layer: Layer, quantised: Quantised, constants: ConstantFinder) -> dict[str, Constant]:
    """Returns the constants by QLinearConv's names of its inputs, `B` only if there is one.

    Raises Refusal for those that are not constant, and for what QLinearConv does not have.
    """
    found = {name: _constant(name, quantised, layer, constants) for name in quantised.tensors if name != "x"}
    if "w_zero_point" not in found:
        zero = TensorProto(name="w_zero_point", data_type=found["w"].tensor.data_type, raw_data=bytes(1))
        found["w_zero_point"] = Constant(zero, in_graph=False)
    for name in ("x", "w", "y"):
        _check_scale(name, found, quantised)
    if layer.activation is not None:
        _check_activation(layer.activation, found)
    _check_bias(found)
    return {name: found[name] for name in QLINEAR_CONV_INPUTS if name in found}


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
    if len(types) != 1 or not types <= {*BYTES}:
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


def _check_bias(found: dict[str, Constant]) -> None:
    """Checks that the bias is in units of the products; quantises one of floats, as onnxruntime does."""
    if "B" not in found:
        return
    products = found["x_scale"].array.reshape(()) * found["w_scale"].array.reshape(-1)
    bias = found["B"]
    if bias.tensor.data_type == TensorProto.FLOAT and "B_scale" not in found:
        limits = np.iinfo(np.int32)
        rounded = np.rint(bias.array.astype(np.float64) / products).clip(limits.min, limits.max)
        found["B"] = Constant(to_tensor(rounded.astype(np.int32), "B"), in_graph=False)
        return
    if bias.tensor.data_type != TensorProto.INT32:
        raise Refusal("its bias is neither float (32 bits) nor quantised to int32")
    if "B_scale" in found and not np.allclose(found["B_scale"].array.reshape(-1), products, SCALE_ERROR, 0.0):
        raise Refusal("its bias has another scale than the products of input and weights")
    if "B_zero_point" in found and found["B_zero_point"].array.any():
        raise Refusal("its bias has a zero point other than 0")
