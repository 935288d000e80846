"""The convolutions that calibration may rewrite, with all that measuring and fitting them needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.graph.cut import cut_model
from reuse_compiler.graph.tensors import to_array
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.convolution_operators import is_convolution
from reuse_compiler.passes.layer import Layer
from reuse_compiler.pipeline import find_layers
from reuse_compiler.reuse.geometry import ConvGeometry

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ConvLayer:
    """A legal convolution of the main graph, with the sizes of the shapes that calibration runs at."""

    name: str
    input: str
    """Name of the tensor that it reads."""
    output: str
    """Name of the convolution's own result, normalized if the model does that."""
    result: str
    """Name of the result after the activation that reuse takes in; `output` if there is none."""
    geometry: ConvGeometry
    weight: Floats
    """`[M, Ic/group, kh, kw]`; a 1-D layer has kh = 1."""
    bias: Floats
    """`[M]`, zeros if the layer has none."""
    weight_shape: tuple[int, ...]
    """As the model has it: without kh where the layer is 1-D."""

    def lift(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Returns an input or a result as `[N, C, H, W]`: a 1-D layer's gets a height of 1."""
        return tensor[:, :, None] if tensor.ndim == 3 else tensor

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input as the model has it."""
        g = self.geometry
        height = () if len(self.weight_shape) == 3 else (g.in_height,)
        return g.batch, g.in_channels, *height, g.in_width

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result as the model has it."""
        g = self.geometry
        height = () if len(self.weight_shape) == 3 else (g.out_height,)
        return g.batch, g.out_channels, *height, g.out_width

    def unfolded_weight(self, group: int) -> Floats:
        """Returns the weights of a group as `[K, M/group]`, rows in the order (kh, kw, c) of the unfolded input."""
        g = self.geometry
        kernels = self.weight[group * g.group_out_channels : (group + 1) * g.group_out_channels]
        return kernels.transpose(2, 3, 1, 0).reshape(g.columns, g.group_out_channels)

    def folded_weight(self, columns: Floats) -> Floats:
        """Returns weights `[groups, K, M/group]` as the model's Conv takes them: the inverse of `unfolded_weight`."""
        g = self.geometry
        kernels = columns.reshape(g.group, *g.kernel, g.group_in_channels, g.group_out_channels)
        stacked = kernels.transpose(0, 4, 3, 1, 2).reshape(self.weight.shape)
        return np.ascontiguousarray(stacked.reshape(self.weight_shape), np.float32)


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
        part = cut_model(self.model, [layer.input], [layer.result])
        # A layer without a node name, or whose name another node has too, would be named otherwise without the others.
        next(node for node in part.graph.node if is_convolution(node)).name = layer.name
        return part


def examine(model: onnx.ModelProto, options: CalibrationOptions) -> Workpiece:
    """Finds the layers to calibrate; `options.shapes` are the sizes of dynamic inputs."""
    prepared, layers = find_layers(model, CompileOptions(shapes=options.shapes))
    reasons = {layer.name: _refusal(layer, options) for layer in layers}
    return Workpiece(
        model=prepared,
        layers=[_describe(layer) for layer in layers if reasons[layer.name] is None],
        dense={name: reason for name, reason in reasons.items() if reason is not None},
        order=[layer.name for layer in layers],
        shapes=options.shapes,
    )


def _refusal(layer: Layer, options: CalibrationOptions) -> str | None:
    if layer.refusal is not None:
        return layer.refusal
    if not layer.in_main:
        return "it stands in the body of an If, Loop or Scan, where calibration cannot follow its input"
    if not layer.size_known:
        return "its input size is unknown: give --shape for the dynamic inputs"
    if options.layers is not None and not re.search(options.layers, layer.name):
        return f"its name does not match --layers '{options.layers}'"
    if options.exclude is not None and re.search(options.exclude, layer.name):
        return f"its name matches --exclude '{options.exclude}'"
    return None


def _describe(layer: Layer) -> ConvLayer:
    assert layer.weight is not None and layer.geometry is not None
    weight = to_array(layer.weight.tensor).astype(np.float32, copy=False)
    bias = np.zeros(len(weight), np.float32) if layer.bias is None else to_array(layer.bias.tensor)
    return ConvLayer(
        name=layer.name,
        input=str(layer.ref.node.inputs[0].name),
        output=layer.linear_output,
        result=layer.output,
        geometry=layer.geometry,
        weight=weight[:, :, None] if weight.ndim == 3 else weight,
        bias=bias.astype(np.float32, copy=False),
        weight_shape=weight.shape,
    )
