"""Edits replace what they are told to, drop what nothing reads any more, and touch nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reuse_compiler.graph.edit import ModelEdit
from reuse_compiler.graph.structure import structure_errors
from reuse_compiler.graph.view import GraphView, NodeRef
from tests.passes.models import IR_VERSION, OPSET, model_of, node_bytes, operators, random_array, tensor, value

node = helper.make_node


def ref_of(view: GraphView, name: str) -> NodeRef:
    return next(ref for ref in view.nodes() if ref.proto.name == name)


def initializers(model: onnx.ModelProto) -> list[str]:
    return [t.name for t in model.graph.initializer]


def add_model(ir_version: int = IR_VERSION, opset: int = OPSET) -> onnx.ModelProto:
    """Computes y = Relu(x + Transpose(w)) and z = x + u, u being read twice."""
    nodes = [
        node("Identity", ["x"], ["i"], name="first", doc_string="kept"),
        node("Transpose", ["w"], ["t"], name="transpose"),
        node("Add", ["i", "t"], ["a"], name="add"),
        node("Relu", ["a"], ["y"], name="relu"),
        node("Add", ["x", "u"], ["z"], name="other"),
        node("Mul", ["z", "u"], ["v"], name="last", doc_string="kept too"),
    ]
    constants = [tensor(name, random_array(2, 2)) for name in ("w", "u", "already_unused")]
    model = model_of(
        nodes, [value("x", [2, 2])], [value("y", None), value("v", None)], constants, ir_version=ir_version, opset=opset
    )
    model.graph.value_info.extend([value("a", [2, 2]), value("z", [2, 2])])
    return model


def test_nodes_are_replaced_in_place_and_the_rest_is_kept() -> None:
    model = add_model()
    before = node_bytes(model.graph)
    view = GraphView(model)
    edit = ModelEdit(view)
    new = [node("Sub", ["i", "c"], ["s"], name="sub"), node("Neg", ["s"], ["y"], name="neg")]
    edit.replace([ref_of(view, "add"), ref_of(view, "relu")], new, [tensor("c", random_array(2, 2))])
    model = edit.result()
    assert operators(model.graph) == ["Identity", "Sub", "Neg", "Add", "Mul"]
    after = node_bytes(model.graph)
    assert [after[0], *after[3:]] == [before[0], *before[4:]]
    assert initializers(model) == ["u", "already_unused", "c"]
    assert [v.name for v in model.graph.value_info] == ["z"]
    assert structure_errors(model) == []


def test_what_others_read_stays() -> None:
    model = add_model()
    view = GraphView(model)
    edit = ModelEdit(view)
    edit.replace([ref_of(view, "other")], [node("Neg", ["x"], ["z"], name="neg")], [])
    model = edit.result()
    assert initializers(model) == ["w", "u", "already_unused"]
    assert [v.name for v in model.graph.value_info] == ["a", "z"]


def test_what_new_nodes_read_by_name_stays() -> None:
    model = add_model()
    view = GraphView(model)
    edit = ModelEdit(view)
    edit.replace([ref_of(view, "add")], [node("Mul", ["i", "w"], ["a"], name="mul")], [])
    model = edit.result()
    assert initializers(model) == ["w", "u", "already_unused"]
    assert "Transpose" not in operators(model.graph)


def test_outputs_stay() -> None:
    model = add_model()
    model.graph.output.append(value("t", None))
    view = GraphView(model)
    edit = ModelEdit(view)
    edit.replace([ref_of(view, "add")], [node("Neg", ["i"], ["a"], name="neg")], [])
    model = edit.result()
    assert "Transpose" in operators(model.graph) and "w" in initializers(model)


def test_old_models_get_constant_nodes_and_keep_their_inputs() -> None:
    model = add_model(ir_version=3, opset=8)
    model.graph.input.extend(value(name, [2, 2]) for name in ("w", "u", "already_unused"))
    view = GraphView(model)
    edit = ModelEdit(view)
    edit.replace([ref_of(view, "add")], [node("Sub", ["i", "c"], ["a"], name="sub")], [tensor("c", random_array(2, 2))])
    model = edit.result()
    assert operators(model.graph) == ["Identity", "Constant", "Sub", "Relu", "Add", "Mul"]
    assert initializers(model) == ["w", "u", "already_unused"]
    assert [v.name for v in model.graph.input] == ["x", "w", "u", "already_unused"]
    assert structure_errors(model) == []


@pytest.mark.parametrize("read_elsewhere", [False, True])
def test_bodies_are_edited_and_their_outer_constants_dropped(read_elsewhere: bool) -> None:
    def body(name: str) -> onnx.GraphProto:
        inner = node("Add", ["x", "w"], [f"{name}_o"], name=f"{name}_add")
        return helper.make_graph([inner], name, [], [value(f"{name}_o", None)])

    branch = node("If", ["cond"], ["y"], name="if", then_branch=body("then"), else_branch=body("else"))
    inputs = [value("x", [2]), value("cond", [], TensorProto.BOOL)]
    model = model_of([branch], inputs, [value("y", None)], [tensor("w", np.ones(2, np.float32))])
    view = GraphView(model)
    edit = ModelEdit(view)
    for name in ["then"] if read_elsewhere else ["then", "else"]:
        new = node("Sub", ["x", f"{name}_c"], [f"{name}_o"], name=f"{name}_sub")
        edit.replace([ref_of(view, f"{name}_add")], [new], [tensor(f"{name}_c", np.ones(2, np.float32))])
    model = edit.result()
    bodies = {a.name: a.g for a in model.graph.node[0].attribute}
    assert operators(bodies["then_branch"]) == ["Sub"]
    assert [t.name for t in bodies["then_branch"].initializer] == ["then_c"]
    assert initializers(model) == (["w"] if read_elsewhere else [])
    assert structure_errors(model) == []
