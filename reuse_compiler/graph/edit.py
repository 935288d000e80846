"""Edits of a model: nodes go and come, everything that is not named stays byte for byte and in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import inf
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from reuse_compiler.graph.structure import given_inputs, graph_at, reads_of
from reuse_compiler.graph.view import GraphView, NodeRef

INITIALIZERS_ARE_INPUTS_BEFORE_IR = 4
"""Before this IR version every initializer had to be a graph input; new constants then become Constant nodes."""

GONE = inf
"""The place of what is deleted: behind all that stays."""


def raise_ir_version(model: onnx.ModelProto, version: int) -> None:
    """Gives a model at least that IR version.

    What is an initializer and an input may be overridden from IR 4 on, so that runtimes do not take it for a constant;
    initializers of older models are inputs because they had to be, and are so no longer.
    """
    if model.ir_version < INITIALIZERS_ARE_INPUTS_BEFORE_IR <= version:
        kept = given_inputs(model.graph)
        del model.graph.input[:]
        model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, version)


@dataclass
class _ScopeEdit:
    """What changes in one graph; indices are those of the nodes before any change."""

    removed: set[int] = field(default_factory=set)
    inserted: dict[int, list[onnx.NodeProto]] = field(default_factory=lambda: defaultdict(list))
    constants: list[onnx.TensorProto] = field(default_factory=list)
    values: list[onnx.ValueInfoProto] = field(default_factory=list)
    unused_initializers: set[str] = field(default_factory=set)
    gone_tensors: set[str] = field(default_factory=set)


class ModelEdit:
    """Collects changes against a view of a model, of which a changed copy is made."""

    def __init__(self, view: GraphView) -> None:
        self._view = view
        self._edits: dict[int, _ScopeEdit] = defaultdict(_ScopeEdit)
        self._removed: dict[int, NodeRef] = {}
        self._read: set[str] = set()
        self._written: set[str] = set()

    def replace(
        self,
        refs: Iterable[NodeRef],
        nodes: Iterable[onnx.NodeProto],
        constants: Iterable[onnx.TensorProto],
        values: Iterable[onnx.ValueInfoProto] = (),
    ) -> None:
        """Replaces nodes of one graph: the new ones stand where the first of `refs` stood and may read `constants`.

        `values` declare what they compute, where the model does not.
        """
        first, *rest = refs
        new = list(nodes)
        edit = self._edits[id(first.scope)]
        edit.inserted[first.index].extend(new)
        edit.constants.extend(constants)
        edit.values.extend(values)
        for ref in (first, *rest):
            self._removed[id(ref)] = ref
        for node in new:
            self._read.update(reads_of(node))
            self._written.update(node.output)

    def result(self) -> onnx.ModelProto:
        """Returns the changed copy; constants that only replaced nodes read are gone from it."""
        self._drop_unused([tensor for ref in self._removed.values() for tensor in ref.node.inputs])
        for ref in self._removed.values():
            edit = self._edits[id(ref.scope)]
            edit.removed.add(ref.index)
            edit.gone_tensors.update({t.name for t in ref.node.outputs} - self._written)
        copy = deepcopy(self._view.model)
        # Bodies first: they lie inside nodes of the graphs around them.
        for scope in reversed(self._view.scopes):
            if id(scope) in self._edits:
                _apply(graph_at(copy, scope.path), self._edits[id(scope)], copy.ir_version)
        return copy

    def _drop_unused(self, candidates: list[gs.Tensor]) -> None:
        """Marks initializers and nodes for removal that computed something for removed nodes only."""
        while candidates:
            tensor = candidates.pop()
            if tensor.is_empty() or not self._unused(tensor):
                continue
            producer = self._view.producer(tensor)
            if producer is None:
                self._drop_initializer(tensor.name)
            elif id(producer) not in self._removed and all(self._unused(t) for t in producer.node.outputs):
                self._removed[id(producer)] = producer
                candidates.extend(producer.node.inputs)

    def _unused(self, tensor: gs.Tensor) -> bool:
        if tensor.name in self._read or self._view.is_output_anywhere(tensor.name):
            return False
        return all(id(ref) in self._removed for ref in self._view.consumers(tensor))

    def _drop_initializer(self, name: str) -> None:
        owners = self._view.initialized_in(name)
        if len(owners) == 1 and name not in owners[0].inputs:
            self._edits[id(owners[0])].unused_initializers.add(name)


def _apply(graph: onnx.GraphProto, edit: _ScopeEdit, ir_version: int) -> None:
    constants = edit.constants if ir_version < INITIALIZERS_ARE_INPUTS_BEFORE_IR else []
    # Their readers are behind the first place where something is inserted; the others are initializers.
    places = [GONE if index in edit.removed else float(index) for index in range(len(graph.node))]
    for number, (index, nodes) in enumerate(sorted(edit.inserted.items())):
        new = [*(map(_constant_node, constants) if number == 0 else ()), *nodes]
        graph.node.extend(new)
        places.extend([float(index)] * len(new))
    _arrange(graph.node, places)
    _arrange(graph.initializer, [GONE if t.name in edit.unused_initializers else 0.0 for t in graph.initializer])
    _arrange(graph.value_info, [GONE if value.name in edit.gone_tensors else 0.0 for value in graph.value_info])
    if not constants:
        graph.initializer.extend(edit.constants)
    declared = {value.name for value in (*graph.value_info, *graph.output)}
    graph.value_info.extend(value for value in edit.values if value.name not in declared)


def _arrange(messages: Any, places: Sequence[float]) -> None:
    """Sorts the messages of a graph by their places, without copying them; deletes those whose place is GONE."""
    if GONE not in places and list(places) == sorted(places):
        return
    place = iter(places)
    messages.sort(key=lambda _: next(place))  # each message is asked for once, in order; equal places stay in order
    kept = len(places) - sum(each == GONE for each in places)
    del messages[kept:]


def _constant_node(tensor: onnx.TensorProto) -> onnx.NodeProto:
    return onnx.helper.make_node("Constant", [], [tensor.name], name=tensor.name, value=tensor)
