"""Producers and consumers are found across bodies, whatever attributes the model has."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from reuse_compiler.graph.view import GraphView
from tests.passes.models import model_of, random_array, tensor, value


def nested_model() -> onnx.ModelProto:
    """Computes a = Relu(x), which bodies two levels deep read, and twice a Mul of the main graph."""
    deep = helper.make_graph([helper.make_node("Neg", ["a"], ["d"], name="neg")], "deep", [], [value("d", None)])
    other = helper.make_graph([helper.make_node("Abs", ["a"], ["e"], name="abs")], "other", [], [value("e", None)])
    inner = helper.make_node("If", ["cond"], ["i"], name="inner", then_branch=deep, else_branch=other)
    then = helper.make_graph([inner], "then", [], [value("i", None)])
    other2 = helper.make_graph([helper.make_node("Identity", ["x"], ["o"], name="id")], "else", [], [value("o", None)])
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="relu"),
        helper.make_node("If", ["cond"], ["y"], name="outer", then_branch=then, else_branch=other2),
        helper.make_node("Mul", ["a", "a"], ["z"], name="mul"),
    ]
    inputs = [value("x", [2]), value("cond", [], TensorProto.BOOL)]
    return model_of(nodes, inputs, [value("y", None), value("z", None)])


def test_nodes_come_in_graph_order_bodies_after_their_node() -> None:
    view = GraphView(nested_model())
    names = [ref.proto.name for ref in view.nodes()]
    assert names[0] == "relu" and names[-1] == "mul" and names[1] == "outer"
    assert set(names[2:6]) == {"inner", "neg", "abs", "id"}
    assert names.index("inner") < names.index("neg")
    assert all(ref.node.name == ref.proto.name for ref in view.nodes())


def test_consumers_in_bodies_count() -> None:
    view = GraphView(nested_model())
    relu = view.nodes()[0]
    consumers = view.consumers(relu.node.outputs[0])
    assert sorted(ref.proto.name for ref in consumers) == ["abs", "mul", "mul", "neg"]
    neg = next(ref for ref in consumers if ref.proto.name == "neg")
    assert view.producer(neg.node.inputs[0]) is relu
    assert view.producer(relu.node.inputs[0]) is None
    assert [scope.proto.name for scope in neg.scope.outwards()] == ["deep", "then", "graph"]


def test_paths_lead_to_the_bodies() -> None:
    model = nested_model()
    for scope in GraphView(model).scopes:
        graph = model.graph
        for node, number in zip(scope.path[::2], scope.path[1::2], strict=True):
            graph = [a.g for a in graph.node[node].attribute if a.HasField("g")][number]
        assert graph.name == scope.proto.name


def test_outputs_of_bodies_count_where_the_name_is_visible() -> None:
    view = GraphView(nested_model())
    assert view.is_output("y", view.main)
    assert view.is_output("d", view.main)
    deep = next(scope for scope in view.scopes if scope.proto.name == "deep")
    assert view.is_output("d", deep) and not view.is_output("y", deep)
    assert not view.is_output("a", view.main)


def test_attributes_that_graphsurgeon_cannot_read_do_not_matter() -> None:
    odd = helper.make_node("Odd", ["x"], ["y"], domain="other", text=b"\xff\xfe not utf-8", empty=0.5)
    odd.attribute.add(name="type", type=onnx.AttributeProto.TYPE_PROTO).tp.CopyFrom(value("", [1]).type)
    strange = TensorProto(name="f8", data_type=TensorProto.FLOAT8E8M0 if hasattr(TensorProto, "FLOAT8E8M0") else 17)
    model = model_of(
        [odd], [value("x", [1])], [value("y", [1])], [strange, tensor("w", random_array(2))], domains=["other"]
    )
    view = GraphView(model)
    assert view.nodes()[0].proto is model.graph.node[0]


def test_the_view_does_not_change_the_model() -> None:
    model = nested_model()
    before = model.SerializeToString()
    GraphView(model)
    assert model.SerializeToString() == before
