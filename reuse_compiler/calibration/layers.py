"""The convolutions that calibration may rewrite, and the model that they stand in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir

import onnx
from onnx import helper

from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.compiler import measure_sizes
from reuse_compiler.graph.cut import cut_model
from reuse_compiler.passes.choose_parameters import not_selected, warn_if_none_selected
from reuse_compiler.passes.convolution_operators import is_convolution
from reuse_compiler.passes.layer import ConvLayer, Layer, Prepared, QuantisedLayer
from reuse_compiler.pipeline import find_layers
from reuse_compiler.verification.inputs import Feed


@dataclass(frozen=True)
class Workpiece:
    """The model that calibration works on, and what became of each of its convolutions."""

    prepared: Prepared
    """All plans are carried out on it; its model has all tensors that layers name."""
    layers: list[ConvLayer]
    """Those to calibrate, in graph order."""
    dense: dict[str, str]
    """By layer that cannot be rewritten or was not asked for: the reason."""

    @property
    def model(self) -> onnx.ModelProto:
        return self.prepared.model

    def alone(self, layer: ConvLayer, activated: bool = True) -> Prepared:
        """Returns a model of the layer alone with its normalization, and with its activation unless it is to lack."""
        types = {}
        if isinstance(layer, QuantisedLayer):
            # Shape inference does not know onnxruntime's own operators, which stand between QLinearConvs.
            types[layer.input] = helper.make_tensor_type_proto(layer.types[0], [None] * len(layer.spec.input_shape))
        part = cut_model(self.model, [layer.input], [layer.output if activated else layer.linear_output], types)
        # A layer without a node name, or whose name another node has too, would be named otherwise without the others.
        next(node for node in part.graph.node if is_convolution(node)).name = layer.name
        return find_layers(part, {layer.input: layer.spec.input_shape})


def examine(
    model: onnx.ModelProto, options: CalibrationOptions, feed: Feed | None = None, folder: Path | None = None
) -> Workpiece:
    """Finds the layers to calibrate; `options.shapes` are the sizes of dynamic inputs.

    Sizes that do not follow from them are those of a run on `feed`, if there is one; `folder` is for a temporary copy.
    """
    prepared = find_layers(model, options.shapes)
    if feed is not None:
        prepared = measure_sizes(prepared, feed, options.threads, folder or Path(gettempdir()))
    warn_if_none_selected(prepared.layers, options.layers)
    reasons = {layer.name: _refusal(layer, options) for layer in prepared.layers}
    return Workpiece(
        prepared,
        layers=[layer for name, layer in prepared.convolutions.items() if reasons[name] is None],
        dense={name: reason for name, reason in reasons.items() if reason is not None},
    )


def _refusal(layer: Layer, options: CalibrationOptions) -> str | None:
    if not isinstance(layer, ConvLayer) or layer.refusal is not None:
        return layer.refusal
    if isinstance(layer, QuantisedLayer) and not layer.spec.gives_bytes:
        return (
            "it is quantised and gives floats, and calibration covers those that give bytes; "
            "reuse-compile --verify-data chooses lossless reuse by measurement"
        )
    if not layer.in_main:
        return "it stands in the body of an If, Loop or Scan, where calibration cannot follow its input"
    if not layer.spec.size_known:
        return "its input size is unknown: give --shape for the dynamic inputs"
    return not_selected(layer.name, options.layers, options.exclude)
