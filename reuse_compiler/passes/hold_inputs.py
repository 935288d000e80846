"""Puts a Hold behind each image input, so that the noise of a camera does not change what a model keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import onnx
from onnx import TensorProto, helper

from reuse_compiler.errors import ConfigError
from reuse_compiler.graph.names import Names
from reuse_compiler.graph.structure import given_inputs, initialized, subgraphs_of
from reuse_compiler.passes.add_function_bodies import add_function_bodies
from reuse_compiler.passes.check_result import check_result
from reuse_compiler.passes.lower_to_reuse import DOMAIN, DOMAIN_VERSION
from reuse_compiler.reuse.config import HoldSettings

RANK = 4
ELEMENTS = (TensorProto.FLOAT, TensorProto.UINT8)
NCHW, NHWC = 1, 3
"""The axis of channels in these orders."""
MOST_CHANNELS = 4
"""Of an image. An axis of more is none of channels if there is another one of so few."""


def hold_inputs(
    model: onnx.ModelProto, settings: HoldSettings, shapes: Mapping[str, Sequence[int]], *, fallback: bool = False
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Returns a copy of a lowered model whose image inputs are held; by input: the tensor that holds it.

    With `fallback` it runs without the operator library, too, and holds nothing then. Raises what `image_axes` raises.
    """
    axes = image_axes(model, settings, shapes)
    result = deepcopy(model)
    names = Names(model)
    held = {name: names.new_tensor(f"{name}/held") for name in axes}
    for place, (name, axis) in enumerate(axes.items()):
        _read(result.graph, name, held[name])
        node = _hold(name, held[name], axis, settings)
        node.name = names.new_node(f"{name}/hold")
        result.graph.node.insert(place, node)
        result.graph.value_info.append(_named(model, name, held[name]))
    if fallback:
        add_function_bodies(result)
    check_result(model, result, 0)
    return result, held


def holds_alone(
    model: onnx.ModelProto, settings: HoldSettings, shapes: Mapping[str, Sequence[int]]
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Returns a model of nothing but what `hold_inputs` adds, whose outputs are what is held; and these by input."""
    axes = image_axes(model, settings, shapes)
    held = {name: f"{name}/held" for name in axes}
    nodes = [_hold(name, held[name], axis, settings) for name, axis in axes.items()]
    inputs = [_named(model, name, name) for name in axes]
    outputs = [_named(model, name, other) for name, other in held.items()]
    opsets = [
        *(each for each in model.opset_import if each.domain != DOMAIN),
        helper.make_opsetid(DOMAIN, DOMAIN_VERSION),
    ]
    graph = helper.make_graph(nodes, "held", inputs, outputs)
    return helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version), held


def _hold(name: str, held: str, axis: int, settings: HoldSettings) -> onnx.NodeProto:
    return helper.make_node("Hold", [name], [held], domain=DOMAIN, axis=axis, **settings.model_dump())


def _named(model: onnx.ModelProto, name: str, other: str) -> onnx.ValueInfoProto:
    """Returns an input's type and shape under another name."""
    value: onnx.ValueInfoProto = deepcopy(next(each for each in model.graph.input if each.name == name))
    value.name = other
    return value


def image_axes(model: onnx.ModelProto, settings: HoldSettings, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Returns the axis of channels of each image input: of rank 4, and of float32 or uint8.

    `shapes` are those of inputs that the model leaves open. Raises ConfigError where there is no image, or the
    tolerances do not fit its channels.
    """
    inputs = given_inputs(model.graph)
    images = [
        value for value in inputs if value.type.tensor_type.elem_type in ELEMENTS and len(_sizes(value, shapes)) == RANK
    ]
    if not images:
        raise ConfigError(
            "inputs that are held must be images, of 4 dimensions and type float32 or uint8, which none of the model's "
            f"is: {', '.join(value.name for value in inputs)}"
        )
    return {value.name: _channel_axis(value.name, _sizes(value, shapes), len(settings.tolerances)) for value in images}


def _sizes(value: onnx.ValueInfoProto, shapes: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """Returns an input's shape, with 0 for what is not known."""
    return shapes.get(value.name) or [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _channel_axis(name: str, sizes: Sequence[int], tolerances: int) -> int:
    """Returns the axis of channels: the last one if it alone has as few as an image has."""
    few = [0 < size <= MOST_CHANNELS for size in sizes]
    axis = NHWC if few[NHWC] and not few[NCHW] else NCHW
    if tolerances not in (1, sizes[axis]):
        channels = sizes[axis] or "an unknown number of"
        raise ConfigError(
            f"--hold has {tolerances} tolerances, but the input '{name}' has {channels} channels: give one for all, or "
            "one for each"
        )
    return axis


def _read(graph: onnx.GraphProto, name: str, other: str) -> None:
    """Makes all nodes of a graph and its bodies that read a tensor read another one."""
    for node in graph.node:
        for index, read in enumerate(node.input):
            if read == name:
                node.input[index] = other
        for body in subgraphs_of(node):
            own = {value.name for value in body.input} | initialized(body)
            own |= {output for inner in body.node for output in inner.output}
            if name not in own:
                _read(body, name, other)
                for value in body.output:
                    value.name = other if value.name == name else value.name
