"""The convolutions of a model that a study can look at, found and checked by the compiler's own passes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler import pipeline
from reuse_compiler.errors import ConfigError
from reuse_compiler.graph.tensors import to_array
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.layer import ConvAttributes, Layer
from reuse_compiler.reference.op_run import blocking_from_attributes
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.verification.data import Shapes

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ConvLayer:
    """A convolution: the tensors that it reads and computes, and its constants (weights [M, Ic/group, kh, kw])."""

    name: str
    input: str
    output: str
    weights: Floats
    bias: Floats | None
    attributes: ConvAttributes

    def lift(self, x: Floats) -> Floats:
        """Returns the layer's input as [N, Ic, H, W], also where the convolution is one-dimensional."""
        return x[:, :, None, :] if self.attributes.one_dimensional else x

    def blocking(self, x: Floats, length: int) -> Blocking:
        """Returns how the input `x` [N, Ic, H, W] is cut into vectors of `length` elements, 0 for whole rows."""
        a = self.attributes
        whole = a.kernel_shape[0] * a.kernel_shape[1] * self.weights.shape[1]
        return blocking_from_attributes(
            x.shape,
            len(self.weights),
            a.kernel_shape,
            "patch",
            min(length or whole, whole),
            a.strides,
            a.pads,
            a.dilations,
            a.group,
            a.auto_pad,
        )


@dataclass(frozen=True)
class ConvModel:
    """A model (functions with convolutions inlined) and those of its convolutions that were asked for."""

    model: onnx.ModelProto
    layers: list[ConvLayer]


def find_layers(model: onnx.ModelProto, pattern: str, shapes: Shapes) -> ConvModel:
    """Finds the convolutions in whose names `pattern` is found; raises ConfigError if none can be studied."""
    prepared, layers = pipeline.find_layers(model, CompileOptions(shapes=dict(shapes)))
    if not layers:
        raise ConfigError("the model has no convolution, so there are no neuron vectors to study")
    matching = [layer for layer in layers if re.search(pattern, layer.name)]
    if not matching:
        names = ", ".join(layer.name for layer in layers)
        raise ConfigError(f"--layer: '{pattern}' is found in no name of a convolution; they are {names}")
    possible = [layer for layer in matching if layer.refusal is None and layer.in_main]
    if not possible:
        reason = matching[0].refusal or "it stands in the body of an If or Loop"
        raise ConfigError(f"--layer: '{matching[0].name}' cannot be studied: {reason}")
    return ConvModel(prepared, [_conv_layer(layer) for layer in possible])


def _conv_layer(layer: Layer) -> ConvLayer:
    assert layer.weight is not None and layer.attributes is not None
    weights = to_array(layer.weight.tensor).astype(np.float32)
    return ConvLayer(
        name=layer.name,
        input=layer.proto.input[0],
        output=layer.linear_output,
        weights=weights[:, :, None, :] if layer.attributes.one_dimensional else weights,
        bias=None if layer.bias is None else to_array(layer.bias.tensor).astype(np.float32),
        attributes=layer.attributes,
    )
