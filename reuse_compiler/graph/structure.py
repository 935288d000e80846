"""Checks of a model's structure: in every scope, each name is computed once, and none is read that nothing computes.

onnx.checker cannot do this for models whose weights exceed protobuf's 2 GB, nor without their external data. The order
of nodes is not checked: onnxruntime sorts them itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import onnx

STANDARD_DOMAINS = ("", "ai.onnx")
"""Both names of the domain of ONNX's own operators."""
ScopePath = tuple[int, ...]
"""Where a graph lies: () is the main graph; (7, 1) is the second body of the main graph's node 7, and so on."""


def subgraphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yields the bodies of a node (If, Loop, Scan), in the order of its attributes."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def located_graphs(graph: onnx.GraphProto, path: ScopePath = ()) -> Iterator[tuple[ScopePath, onnx.GraphProto]]:
    """Yields a graph and all bodies inside it, each with its path, of which that of the graph is the beginning."""
    yield path, graph
    for index, node in enumerate(graph.node):
        for number, body in enumerate(subgraphs_of(node)):
            yield from located_graphs(body, (*path, index, number))


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yields a graph and all bodies inside it."""
    return (each for _, each in located_graphs(graph))


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yields nodes and those of their bodies."""
    for node in nodes:
        yield node
        for body in subgraphs_of(node):
            yield from all_nodes(body.node)


def initialized(graph: onnx.GraphProto) -> set[str]:
    """Returns the names of a graph's initializers, dense and sparse."""
    return {tensor.name for tensor in graph.initializer} | {tensor.values.name for tensor in graph.sparse_initializer}


def given_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Returns the inputs that a run must be given, in order: those that are no initializers, too."""
    constants = initialized(graph)
    return [value for value in graph.input if value.name not in constants]


def reads_of(node: onnx.NodeProto) -> Iterator[str]:
    """Yields the tensors that a node reads from its own graph or those around it, in its bodies too."""
    yield from filter(None, node.input)
    for body in subgraphs_of(node):
        own = {value.name for value in body.input} | initialized(body)
        own |= {name for inner in body.node for name in inner.output}
        read = {name for inner in body.node for name in reads_of(inner)} | {value.name for value in body.output}
        yield from read - own


def structure_errors(model: onnx.ModelProto) -> list[str]:
    """Returns a sentence for everything that is wrong with the structure of the main graph and its bodies."""
    errors = list(_graph_errors(model.graph, set(), "the graph"))
    if not model.opset_import:
        errors.append("it imports no operator set")
    elif not any(opset.domain in STANDARD_DOMAINS for opset in model.opset_import):
        own = (node for node in all_nodes(model.graph.node) if node.domain in STANDARD_DOMAINS)
        errors += [
            f"{_label(node)} is ONNX's own, but no set of ONNX's operators is imported" for node in islice(own, 1)
        ]
    return errors


def _graph_errors(graph: onnx.GraphProto, outer: set[str], where: str) -> Iterator[str]:
    given = {value.name for value in graph.input} | initialized(graph)
    computed: set[str] = set()
    for node in graph.node:
        for name in filter(None, node.output):
            if name in given or name in computed:
                yield f"{_label(node)} in {where} computes '{name}', which exists already"
            computed.add(name)
    # Names of the graphs around are looked up in one set, which bodies add to while they are looked at.
    own = (given | computed) - outer
    outer |= own
    for node in graph.node:
        for name in node.input:
            if name and name not in outer:
                yield f"{_label(node)} in {where} reads '{name}', which nothing computes"
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                yield f"{_label(node)} in {where} has '{attribute.name}' from a function, but stands in none"
        for body in subgraphs_of(node):
            yield from _graph_errors(body, outer, f"a body of {_label(node)}")
    for value in graph.output:
        if value.name not in outer:
            yield f"nothing in {where} computes its output '{value.name}'"
    outer -= own


def _label(node: onnx.NodeProto) -> str:
    return f"node '{node.name or next(iter(node.output), '')}' ({node.op_type})"


def graph_at(model: onnx.ModelProto, path: ScopePath) -> onnx.GraphProto:
    """Returns the graph at a path."""
    graph = model.graph
    for index, number in zip(path[::2], path[1::2], strict=True):
        graph = list(subgraphs_of(graph.node[index]))[number]
    return graph
