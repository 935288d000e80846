"""New names clash with none in any scope."""

from __future__ import annotations

from onnx import TensorProto, helper

from reuse_compiler.graph.names import Names
from tests.passes.models import model_of, random_array, tensor, value


def test_names_of_all_scopes_are_taken() -> None:
    inner = helper.make_node("Identity", ["x"], ["inner"], name="inner_node")
    body = helper.make_graph([inner], "b", [], [value("inner", None)], [tensor("inner_w", random_array(1))])
    branch = helper.make_node("If", ["cond"], ["y"], name="if", then_branch=body, else_branch=body)
    inputs = [value("x", [1]), value("cond", [], TensorProto.BOOL)]
    names = Names(model_of([branch], inputs, [value("y", None)], [tensor("w", random_array(1))]))
    for taken in ("x", "y", "w", "inner", "inner_w", "cond"):
        assert names.new_tensor(taken) == f"{taken}#2"
        assert names.new_tensor(taken) == f"{taken}#3"
    assert names.new_tensor("free") == "free"
    assert names.new_node("inner_node") == "inner_node#2"
    assert names.new_node("inner") == "inner"
    names.release_node("if")
    assert names.new_node("if") == "if"
