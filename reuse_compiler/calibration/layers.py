"""The convolutions that calibration may rewrite, and the model that they stand in."""

from __future__ import annotations

import re
from dataclasses import dataclass

import onnx

from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.graph.cut import cut_model
from reuse_compiler.passes.convolution_operators import is_convolution
from reuse_compiler.passes.layer import ConvLayer, Layer
from reuse_compiler.pipeline import find_layers


@dataclass(frozen=True)
class Workpiece:
    """The model that calibration works on, and what became of each of its convolutions."""

    model: onnx.ModelProto
    """Functions inlined and constants folded, as the passes see it: it has all tensors that layers name."""
    layers: list[ConvLayer]
    """In graph order."""
    dense: dict[str, str]
    """By layer that cannot be rewritten or was not asked for: the reason."""
    order: list[str]
    """The names of all Conv-like nodes, in graph order."""
    shapes: dict[str, tuple[int, ...]]
    """Sizes of the dynamic inputs."""

    def layer_model(self, layer: ConvLayer) -> onnx.ModelProto:
        """Returns the layer alone, with its normalization and activation."""
        part = cut_model(self.model, [layer.input], [layer.output])
        # A layer without a node name, or whose name another node has too, would be named otherwise without the others.
        next(node for node in part.graph.node if is_convolution(node)).name = layer.name
        return part


def examine(model: onnx.ModelProto, options: CalibrationOptions) -> Workpiece:
    """Finds the layers to calibrate; `options.shapes` are the sizes of dynamic inputs."""
    prepared, found = find_layers(model, options.shapes)
    reasons = {layer.name: _refusal(layer, options) for layer in found}
    return Workpiece(
        model=prepared,
        layers=[layer for layer in found if isinstance(layer, ConvLayer) and reasons[layer.name] is None],
        dense={name: reason for name, reason in reasons.items() if reason is not None},
        order=[layer.name for layer in found],
        shapes=options.shapes,
    )


def _refusal(layer: Layer, options: CalibrationOptions) -> str | None:
    if not isinstance(layer, ConvLayer) or layer.refusal is not None:
        return layer.refusal
    if not layer.in_main:
        return "it stands in the body of an If, Loop or Scan, where calibration cannot follow its input"
    if not layer.spec.size_known:
        return "its input size is unknown: give --shape for the dynamic inputs"
    if options.layers is not None and not re.search(options.layers, layer.name):
        return f"its name does not match --layers '{options.layers}'"
    if options.exclude is not None and re.search(options.exclude, layer.name):
        return f"its name matches --exclude '{options.exclude}'"
    return None
