"""Builds the two forms of a model into one: `If(Redundancy(x)) {with reuse} else {as it was}`.

The weights of each form stand inside its body, where onnxruntime brings them into the order that its kernels like;
those of graphs around a body it leaves as they are, which is slower (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import helper

from reuse_compiler.graph.cut import cut_model
from reuse_compiler.graph.edit import INITIALIZERS_ARE_INPUTS_BEFORE_IR, ModelEdit, raise_ir_version
from reuse_compiler.graph.names import Names
from reuse_compiler.graph.structure import graphs_of
from reuse_compiler.passes.keep_pixel_major import keep_pixel_major
from reuse_compiler.passes.layer import Prepared
from reuse_compiler.passes.lower_to_reuse import DOMAIN, DOMAIN_VERSION
from reuse_compiler.regions.segments import SAMPLES, Flow, Segment
from reuse_compiler.regions.windows import Window


@dataclass(frozen=True)
class Question:
    """A question to a tensor: whether the expected saving exceeds the threshold.

    It is the sum of `gains`, by layer, each times the share of its vectors that are repeated.
    """

    source: str
    windows: Mapping[str, Window]
    gains: Mapping[str, float]
    threshold: float
    samples: int = SAMPLES

    def node(self, name: str, enough: str) -> onnx.NodeProto:
        """Returns the node that computes the boolean `enough`."""
        windows = [self.windows[layer] for layer in self.gains]
        return helper.make_node(
            "Redundancy",
            [self.source],
            [enough],
            name,
            domain=DOMAIN,
            windows=[window.side for window in windows],
            strides=[window.stride for window in windows],
            gains=list(self.gains.values()),
            threshold=self.threshold,
            samples=self.samples,
        )


@dataclass(frozen=True)
class TwoForms:
    """A segment, and the test by which a run takes its form with reuse."""

    segment: Segment
    test: Question


@dataclass(frozen=True)
class Guards:
    """What a model's two forms are made of."""

    entry: Sequence[Question]
    """Of the first segment's source: a run for which all fail takes the original nodes from there to `stop`."""
    segments: Sequence[TwoForms]
    """In the form that other runs take; a single one needs no test of its own."""
    stop: int


def guard(prepared: Prepared, lowered: onnx.ModelProto, guards: Guards) -> onnx.ModelProto:
    """Returns the model with two forms of its nodes: of `lowered`, and its own.

    `lowered` is the same model with layers of the segments rewritten, all tensors in their order.
    """
    return _Guard(prepared, lowered).build(guards)


class _Guard:
    def __init__(self, prepared: Prepared, lowered: onnx.ModelProto) -> None:
        self._prepared, self._lowered = prepared, lowered
        self._flow, self._names = Flow(prepared.model), Names(prepared.model)
        self._declared = prepared.declarations[()]

    def build(self, guards: Guards) -> onnx.ModelProto:
        start, original = guards.segments[0].segment.start, self._prepared.model
        nodes, enough = self._tests(guards.entry)
        reuse, dense, position = _Body(), _Body(), start
        for each in guards.segments:
            first, last = each.segment.start, each.segment.stop
            self._add(reuse, original, position, first)
            if len(guards.segments) == 1:
                self._add(reuse, self._lowered, first, last)
            else:
                forms = [_Body(), _Body()]
                self._add(forms[0], self._lowered, first, last)
                self._add(forms[1], original, first, last)
                tests, repeats = self._tests([each.test])
                reuse.nodes += [*tests, self._if(repeats, forms, first, last)]
            position = last
        self._add(reuse, original, position, guards.stop)
        self._add(dense, original, start, guards.stop)
        nodes.append(self._if(enough, [reuse, dense], start, guards.stop))
        edit = ModelEdit(self._prepared.view)
        # Constants stay where others read them, and go otherwise.
        main = [ref for ref in self._prepared.view.nodes() if ref.scope.parent is None]
        varying = [ref for ref in main[start : guards.stop] if self._flow.producer.keys() & set(ref.proto.output)]
        edit.replace(varying, nodes, [])
        model = edit.result()
        raise_ir_version(model, INITIALIZERS_ARE_INPUTS_BEFORE_IR)  # bodies have no inputs
        if all(opset.domain != DOMAIN for opset in model.opset_import):
            model.opset_import.add(domain=DOMAIN, version=DOMAIN_VERSION)
        return model

    def _tests(self, tests: Sequence[Question]) -> tuple[list[onnx.NodeProto], str]:
        """Returns the nodes that ask whether one of the tests succeeds, and the tensor that tells."""
        nodes: list[onnx.NodeProto] = []
        result = ""
        for test in tests:
            wish = f"{test.source}/repeats"
            enough = self._names.new_tensor(wish)
            nodes.append(test.node(self._names.new_node(wish), enough))
            if result:
                either = self._names.new_tensor(wish)
                nodes.append(helper.make_node("Or", [result, enough], [either], self._names.new_node(f"{wish}/or")))
                enough = either
            result = enough
        return nodes, result

    def _add(self, body: _Body, model: onnx.ModelProto, start: int, stop: int) -> None:
        """Adds to a body what computes, in `model`, the results of the original nodes from `start` to `stop`."""
        outputs = self._flow.outputs(start, stop)
        if not outputs:
            return
        inputs = self._flow.inputs(start, stop)
        part = cut_model(model, inputs, outputs, dict.fromkeys(inputs, onnx.TypeProto()))
        if model is self._lowered:
            part, _ = keep_pixel_major(part)
        body.add(part.graph)

    def _if(self, condition: str, forms: Sequence[_Body], start: int, stop: int) -> onnx.NodeProto:
        """Returns the node that runs the first or the second form of the nodes from `start` to `stop`."""
        outputs = self._flow.outputs(start, stop)
        bodies = {
            f"{branch}_branch": self._graph(body, outputs, name)
            for branch, body, name in zip(("then", "else"), forms, ("reuse", "dense"), strict=True)
        }
        return helper.make_node("If", [condition], outputs, self._names.new_node(f"{condition}/if"), **bodies)

    def _graph(self, body: _Body, outputs: Sequence[str], form: str) -> onnx.GraphProto:
        """Returns a body whose tensors and nodes have names of their own; `outputs` have them in the graph around."""
        graph = onnx.GraphProto(name=form)
        graph.node.extend(body.nodes)
        graph.initializer.extend(body.initializers.values())
        graph.sparse_initializer.extend(body.sparse.values())
        graph.value_info.extend(value for name, value in body.values.items() if name not in outputs)
        for name in outputs:
            graph.output.append(self._declared.get(name, onnx.ValueInfoProto(name=name)))
        own = (
            {name for node in graph.node for name in node.output if name}
            | body.initializers.keys()
            | body.sparse.keys()
        )
        renamed = {name: self._names.new_tensor(f"{name}/{form}") for name in sorted(own)}
        _rename(graph, renamed)
        return graph


class _Body:
    """Nodes and constants of a body to be; parts that are added may have some in common."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.sparse: dict[str, onnx.SparseTensorProto] = {}
        self.values: dict[str, onnx.ValueInfoProto] = {}

    def add(self, graph: onnx.GraphProto) -> None:
        """Adds all of a graph whose inputs are outputs of earlier ones, or tensors around the body."""
        computed = {name for node in self.nodes for name in node.output}
        self.nodes += [node for node in graph.node if not computed.intersection(filter(None, node.output))]
        self.initializers |= {tensor.name: tensor for tensor in graph.initializer}
        self.sparse |= {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        self.values |= {value.name: value for value in (*graph.value_info, *graph.output) if value.HasField("type")}


def _rename(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    """Renames tensors in a graph and in all bodies inside it."""
    for inner in graphs_of(graph):
        for value in (*inner.input, *inner.output, *inner.value_info, *inner.initializer):
            value.name = renamed.get(value.name, value.name)
        for sparse in inner.sparse_initializer:
            sparse.values.name = renamed.get(sparse.values.name, sparse.values.name)
        for node in inner.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    names[index] = renamed.get(name, name)
