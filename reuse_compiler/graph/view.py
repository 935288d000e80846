"""A view of a model through onnx-graphsurgeon: producers and consumers of tensors, across If/Loop/Scan bodies.

graphsurgeon's own export drops doc strings, metadata and more, so it serves for reading only; the view ties each of its
nodes to the NodeProto it stands for, which stays as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.logger import G_LOGGER

from reuse_compiler.graph.structure import STANDARD_DOMAINS, ScopePath, subgraphs_of

COMMUTATIVE = ("Add", "Mul")


@dataclass(eq=False)
class Scope:
    """One graph of a model: the main graph or a body. Names of outer scopes are visible inside."""

    proto: onnx.GraphProto
    graph: gs.Graph
    parent: Scope | None
    path: ScopePath
    initializers: dict[str, onnx.TensorProto] = field(init=False)
    sparse: set[str] = field(init=False)
    inputs: set[str] = field(init=False)
    outputs: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.initializers = {tensor.name: tensor for tensor in self.proto.initializer}
        self.sparse = {tensor.values.name for tensor in self.proto.sparse_initializer}
        self.inputs = {value.name for value in self.proto.input}
        self.outputs = {value.name for value in self.proto.output}

    def outwards(self) -> Iterator[Scope]:
        """Yields this scope and those around it, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


@dataclass(eq=False)
class NodeRef:
    """A node: as graphsurgeon sees it, and where its NodeProto stands."""

    scope: Scope
    index: int
    node: gs.Node

    @property
    def proto(self) -> onnx.NodeProto:
        node: onnx.NodeProto = self.scope.proto.node[self.index]
        return node

    def is_standard(self, op_type: str) -> bool:
        """Tells whether it is an operator of ONNX's own."""
        return self.proto.domain in STANDARD_DOMAINS and self.proto.op_type == op_type


class GraphView:
    """All graphs of a model. Valid until the model changes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.opset = next((o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS), 1)
        self.scopes: list[Scope] = []
        self._refs: dict[int, NodeRef] = {}
        self._order: list[NodeRef] = []
        with G_LOGGER.suppress():
            graph = gs.import_onnx(_reading_copy(model))
        self._visit(model.graph, graph, None, ())
        self._given_out = _by_name((scope, scope.outputs) for scope in self.scopes)
        self._initialized = _by_name((scope, scope.initializers) for scope in self.scopes)

    def _visit(self, proto: onnx.GraphProto, graph: gs.Graph, parent: Scope | None, path: ScopePath) -> None:
        scope = Scope(proto, graph, parent, path)
        self.scopes.append(scope)
        for index, (node_proto, node) in enumerate(zip(proto.node, graph.nodes, strict=True)):
            ref = NodeRef(scope, index, node)
            self._refs[id(node)] = ref
            self._order.append(ref)
            bodies = [value for value in node.attrs.values() if isinstance(value, gs.Graph)]
            for number, (body_proto, body) in enumerate(zip(subgraphs_of(node_proto), bodies, strict=True)):
                self._visit(body_proto, body, scope, (*path, index, number))

    @property
    def main(self) -> Scope:
        return self.scopes[0]

    def nodes(self) -> list[NodeRef]:
        """Returns all nodes in graph order; those of bodies directly after the node that holds them."""
        return self._order

    def consumers(self, tensor: gs.Tensor) -> list[NodeRef]:
        """Returns the nodes that read `tensor`, in its own scope and in bodies; one that reads it twice comes twice."""
        return [self._refs[id(node)] for node in tensor.outputs]

    def producer(self, tensor: gs.Tensor) -> NodeRef | None:
        """Returns the node that computes `tensor`, or None for inputs and initializers."""
        return self._refs[id(tensor.inputs[0])] if tensor.inputs else None

    def only_reader(self, producer: NodeRef) -> NodeRef | None:
        """Returns the standard node that alone reads a node's result, which nothing else sees; else None.

        The result is its first input, but for operators whose inputs may be exchanged.
        """
        output = producer.node.outputs[0]
        consumers = self.consumers(output)
        if len(consumers) != 1 or self.is_output(output.name, producer.scope):
            return None
        ref = consumers[0]
        standard = ref.proto.domain in STANDARD_DOMAINS
        is_operand = ref.node.inputs[0] is output or ref.proto.op_type in COMMUTATIVE
        if not standard or ref.scope is not producer.scope or not is_operand:
            return None
        return ref

    def is_output(self, name: str, scope: Scope) -> bool:
        """Tells whether `name`, defined in `scope`, is an output of that graph or of a body inside it."""
        return any(scope in given.outwards() for given in self._given_out.get(name, ()))

    def is_output_anywhere(self, name: str) -> bool:
        """Tells whether `name` is an output of any graph."""
        return name in self._given_out

    def initialized_in(self, name: str) -> list[Scope]:
        """Returns the graphs that have an initializer `name`."""
        return self._initialized.get(name, [])


def _by_name(scopes: Iterable[tuple[Scope, Iterable[str]]]) -> dict[str, list[Scope]]:
    """Returns by name the scopes that have it."""
    found: dict[str, list[Scope]] = defaultdict(list)
    for scope, names in scopes:
        for name in names:
            found[name].append(scope)
    return dict(found)


def _reading_copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy with the topology only: graphsurgeon cannot read every attribute and element type of ONNX."""
    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    _copy_topology(model.graph, copy.graph)
    return copy


def _copy_topology(source: onnx.GraphProto, target: onnx.GraphProto) -> None:
    target.name = source.name
    for value in source.input:
        target.input.add(name=value.name)
    for value in source.output:
        target.output.add(name=value.name)
    for name in [*(t.name for t in source.initializer), *(t.values.name for t in source.sparse_initializer)]:
        target.initializer.add(name=name, data_type=onnx.TensorProto.FLOAT, dims=[0])
    for node in source.node:
        copy = target.node.add(op_type=node.op_type, name=node.name, domain=node.domain)
        copy.input.extend(node.input)
        copy.output.extend(node.output)
        for number, body in enumerate(subgraphs_of(node)):
            attribute = copy.attribute.add(name=f"body{number}", type=onnx.AttributeProto.GRAPH)
            _copy_topology(body, attribute.g)
