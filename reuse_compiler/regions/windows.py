"""Receptive fields: which pixels of one tensor decide about a pixel of another.

Where two windows of pixels are equal, so are the neuron vectors that a layer has there. A coarse sample of windows
thus tells of a tensor how much the inputs of all layers behind it repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from onnx import helper

from reuse_compiler.graph.shapes import Shape
from reuse_compiler.graph.structure import STANDARD_DOMAINS
from reuse_compiler.passes.keep_pixel_major import BINARY, UNARY

SLIDING = ("Conv", "ConvInteger", "MaxPool", "AveragePool", "LpPool")
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
BY_PIXEL = {*UNARY, *BINARY, *CONVERSIONS, "BatchNormalization", "Cast", "Concat", "Dropout", "LRN", "Pad"}
"""Operators of which each pixel of the result depends on the same pixel of the inputs, or on it alone."""
CHANNEL_AXIS = 1


@dataclass(frozen=True)
class Window:
    """The pixels of a tensor that decide about one of another: a square of `side`, every `stride` pixels one."""

    side: int = 1
    stride: int = 1

    def behind(self, kernel: int, stride: int) -> Window:
        """Returns the window of a pixel that is computed from `kernel` neighbours, `stride` apart from the next."""
        return Window(self.side + (kernel - 1) * self.stride, self.stride * stride)

    def __or__(self, other: Window) -> Window:
        return Window(max(self.side, other.side), max(self.stride, other.stride))


def windows_of(
    nodes: Iterable[onnx.NodeProto], source: str, fixed: set[str], shapes: Mapping[str, Shape]
) -> dict[str, Window]:
    """Returns the windows of `source` by tensor that `nodes`, in order, compute from it and from nothing else.

    `fixed` tensors are the same in every run; tensors of a single pixel (a channel's scale, say) are the same for all
    pixels of a run. Neither says anything of repetitions.
    """
    windows = {source: Window()}
    for node in nodes:
        window = _of_result(node, windows, fixed, shapes)
        if window is not None:
            windows |= {name: window for name in node.output if name and name != source}
    return windows


def _of_result(
    node: onnx.NodeProto, windows: Mapping[str, Window], fixed: set[str], shapes: Mapping[str, Shape]
) -> Window | None:
    read = [name for name in node.input if name and name not in fixed and not _is_pixel(shapes.get(name))]
    if node.domain not in STANDARD_DOMAINS or not read or any(name not in windows for name in read):
        return None
    window = windows[read[0]]
    for name in read[1:]:
        window |= windows[name]
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type in BY_PIXEL and attributes.get("axis", CHANNEL_AXIS) == CHANNEL_AXIS:
        return window
    if node.op_type not in SLIDING or len(read) != 1:
        return None
    kernel = attributes.get("kernel_shape") or _kernel(node, shapes)
    dilation = max(attributes.get("dilations", [1]))
    if kernel is None:
        return None
    return window.behind((max(kernel) - 1) * dilation + 1, max(attributes.get("strides", [1])))


def _kernel(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> list[int] | None:
    """Returns the kernel's size of a Conv that does not say it, from its weights."""
    dims = shapes.get(node.input[1]) if len(node.input) > 1 else None
    return [size for size in dims[2:] if size] if dims else None


def _is_pixel(shape: Shape | None) -> bool:
    return shape is not None and (len(shape) == 0 or (len(shape) > 2 and all(size == 1 for size in shape[2:])))
