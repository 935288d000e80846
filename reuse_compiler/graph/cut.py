"""Cutting a part out of a model: the nodes between some tensors and others, as a model of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx

from reuse_compiler.errors import ModelError
from reuse_compiler.graph.names import Names
from reuse_compiler.graph.shapes import infer_values
from reuse_compiler.graph.structure import initialized, reads_of


def cut_model(
    model: onnx.ModelProto,
    inputs: Sequence[str],
    outputs: Sequence[str],
    types: Mapping[str, onnx.TypeProto] | None = None,
) -> onnx.ModelProto:
    """Returns the part of the main graph that computes the tensors `outputs` when the tensors `inputs` are fed.

    What the outputs need beside the given inputs is computed as in the model, from its own inputs: those that are
    needed follow `inputs`. Only nodes and initializers that are needed are kept, in their order; tensors keep their
    names, external tensors stay external. Type and shape of the new inputs are as inferred (dynamic where not known),
    unless `types` has them. Raises ModelError if the main graph lacks a tensor, or the type of an input is not known.
    """
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output if name}
    _check_tensors(graph, producers, [*inputs, *outputs])
    tensors, nodes = _needed(producers, inputs, outputs)
    values = infer_values(model)

    part = onnx.ModelProto(ir_version=model.ir_version)
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.metadata_props.extend(model.metadata_props)
    part.graph.name = graph.name
    part.graph.node.extend(node for node in graph.node if id(node) in nodes)
    _rename_outputs(part.graph, inputs, Names(model))
    kept = tensors - set(inputs)
    part.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in kept)
    part.graph.sparse_initializer.extend(t for t in graph.sparse_initializer if t.values.name in kept)
    part.graph.quantization_annotation.extend(a for a in graph.quantization_annotation if a.tensor_name in tensors)
    part.graph.input.extend(_input(name, values, types or {}) for name in inputs)
    part.graph.input.extend(value for value in graph.input if value.name in kept)
    part.graph.output.extend(values.get(name, onnx.ValueInfoProto(name=name)) for name in outputs)
    part.graph.value_info.extend(
        values[name] for node in part.graph.node for name in node.output if name in values and name not in outputs
    )
    return part


def _check_tensors(graph: onnx.GraphProto, producers: Mapping[str, onnx.NodeProto], names: Iterable[str]) -> None:
    known = producers.keys() | {value.name for value in graph.input} | initialized(graph)
    for name in names:
        if name not in known:
            raise ModelError(f"the model cannot be cut at '{name}': its main graph has no tensor of that name")


def _needed(
    producers: Mapping[str, onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[set[str], set[int]]:
    """Returns the names of all tensors that the outputs need back to the inputs, and the ids of their nodes."""
    tensors: set[str] = set(inputs)
    nodes: set[int] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name in tensors:
            continue
        tensors.add(name)
        node = producers.get(name)
        if node is not None and id(node) not in nodes:
            nodes.add(id(node))
            waiting.extend(reads_of(node))
    return tensors, nodes


def _rename_outputs(graph: onnx.GraphProto, inputs: Sequence[str], names: Names) -> None:
    """Gives new names to outputs of kept nodes that are inputs now: the node is kept for another of its outputs."""
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name in inputs:
                node.output[index] = names.new_tensor(name)


def _input(
    name: str, values: Mapping[str, onnx.ValueInfoProto], types: Mapping[str, onnx.TypeProto]
) -> onnx.ValueInfoProto:
    if name in types:
        return onnx.ValueInfoProto(name=name, type=types[name])
    if name not in values:
        raise ModelError(
            f"the model cannot be cut at '{name}': shape inference does not find its type; "
            "declare it in the model (value_info)"
        )
    return values[name]
