"""Structural errors of models are found in every scope."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reuse_compiler.graph.structure import graphs_of, structure_errors
from tests.passes.models import conv_model, model_of, tensor, value


def relu(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [target], name=f"{source}_to_{target}")


def test_a_sound_model_has_no_errors() -> None:
    assert structure_errors(conv_model()) == []


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        (
            [("x", "c"), ("missing", "y")],
            "node 'missing_to_y' (Relu) in the graph reads 'missing', which nothing computes",
        ),
        ([("x", "y"), ("x", "y")], "computes 'y', which exists already"),
        ([("x", "x"), ("x", "y")], "computes 'x', which exists already"),
        ([("x", "c")], "nothing in the graph computes its output 'y'"),
    ],
)
def test_errors_are_named(nodes: list[tuple[str, str]], sentence: str) -> None:
    model = model_of([relu(*names) for names in nodes], [value("x", [1])], [value("y", [1])])
    assert any(sentence in error for error in structure_errors(model)), structure_errors(model)


def test_order_of_nodes_does_not_matter() -> None:
    model = model_of([relu("c", "y"), relu("x", "c")], [value("x", [1])], [value("y", [1])])
    assert structure_errors(model) == []


def test_bodies_see_outer_names_but_not_the_other_way_round() -> None:
    then = helper.make_graph([relu("x", "inner")], "then", [], [value("inner", [1])])
    other = helper.make_graph([relu("lost", "o")], "else", [], [value("o", [1])])
    branch = helper.make_node("If", ["cond"], ["c"], name="if", then_branch=then, else_branch=other)
    inputs = [value("x", [1]), value("cond", [], TensorProto.BOOL)]
    model = model_of([branch, relu("inner", "y")], inputs, [value("y", [1])])
    errors = structure_errors(model)
    assert len(errors) == 2
    assert any("a body of node 'if' (If) reads 'lost'" in error for error in errors)
    assert any("in the graph reads 'inner'" in error for error in errors)
    assert {graph.name for graph in graphs_of(model.graph)} == {"graph", "then", "else"}


def test_a_model_without_opsets_is_unsound() -> None:
    model = conv_model()
    del model.opset_import[:]
    assert structure_errors(model) == ["it imports no operator set"]
    model.opset_import.add(domain="other", version=1)
    (error,) = structure_errors(model)
    assert "is ONNX's own, but no set of ONNX's operators is imported" in error


def test_sparse_initializers_count_as_computed() -> None:
    model = model_of([relu("s", "y")], [], [value("y", [3])])
    values, indices = tensor("s", np.ones(1, np.float32)), tensor("", np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))
    assert structure_errors(model) == []


def test_an_attribute_of_a_function_stands_in_functions_only() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    node.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    model = model_of([node], [value("x", [1])], [value("y", None)])
    (error,) = structure_errors(model)
    assert error == "node 'relu' (Relu) in the graph has 'alpha' from a function, but stands in none"
