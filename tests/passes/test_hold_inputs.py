"""Inputs that are held: which, how, and that nothing else of a model changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import reuse_compiler
from reuse_compiler.errors import ConfigError
from reuse_compiler.passes.hold_inputs import hold_inputs
from reuse_compiler.pipeline import lower
from reuse_compiler.reuse.config import HoldSettings
from tests.passes.models import EXACT, conv_model, model_of, node_bytes, operators, random_array, value

HOLD = HoldSettings(tolerances=(0.5,))
node = helper.make_node


def attributes_of(held: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in held.attribute}


def test_an_image_is_held_and_all_else_stays() -> None:
    lowered = lower(conv_model(shape=("N", 4, "H", "W")), EXACT).model
    before = lowered.SerializeToString()
    result, held = hold_inputs(lowered, HOLD, {}, fallback=True)
    assert lowered.SerializeToString() == before and held == {"x": "x/held"}
    assert operators(result.graph) == ["Hold", *operators(lowered.graph)]
    defaults = {"opening": 1, "dilation": 8, "patience": 0}
    assert attributes_of(result.graph.node[0]) == {"tolerances": [0.5], "axis": 1, **defaults}
    assert result.graph.node[1].input[0] == "x/held"
    onnx.checker.check_model(result)
    x, other = random_array(2, 4, 9, 8), random_array(2, 4, 9, 8) + 0.25
    session = reuse_compiler.session(result.SerializeToString())
    expected = reuse_compiler.session(before).run(None, {"x": x})[0]
    for given in (x, other):
        np.testing.assert_array_equal(session.run(None, {"x": given})[0], expected)
    alone = onnxruntime.InferenceSession(result.SerializeToString(), providers=["CPUExecutionProvider"])
    original = onnxruntime.InferenceSession(before, providers=["CPUExecutionProvider"])
    for given in (x, other):
        np.testing.assert_array_equal(alone.run(None, {"x": given})[0], original.run(None, {"x": given})[0])


def test_nodes_in_bodies_read_what_is_held_unless_the_name_is_theirs() -> None:
    def body(*nodes: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph(nodes, "body", [], [value("z", None)])

    inner = body(node("Neg", ["x"], ["z"]))
    own = body(node("Relu", ["y"], ["x"]), node("Neg", ["x"], ["z"]))
    nodes = [
        node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
        node("If", ["c"], ["out"], then_branch=own, else_branch=body(node("Identity", ["x"], ["z"]))),
        node("Identity", ["small"], ["other"]),
    ]
    inputs = [value("x", [1, 3, 4, 5]), value("c", [], TensorProto.BOOL), value("small", [1, 3])]
    model = model_of(nodes, inputs, [value("out", None), value("other", None)], domains=["ai.reuse"])
    result, held = hold_inputs(model, HOLD, {})
    assert held == {"x": "x/held"}
    reads = [[branch.g.node[-1].input[0] for branch in each.attribute] for each in result.graph.node[1:3]]
    assert reads == [["x/held", "x/held"], ["x/held", "x"]]  # of the bodies in alphabetical order
    assert node_bytes(result.graph)[3] == nodes[2].SerializeToString()


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((1, 3, 32, 32), 1), ((1, 32, 32, 3), 3), (("N", "H", "W", 3), 3), (("N", 1, "H", "W"), 1),
        ((1, 3, 3, 3), 1), ((1, 64, 32, 32), 1), ((1, 3, 32, 4), 1), (("N", "C", "H", "W"), 1),
    ],
)  # fmt: skip
def test_the_axis_of_channels(shape: Any, axis: int) -> None:
    model = model_of([node("Identity", ["x"], ["y"])], [value("x", shape, TensorProto.UINT8)], [value("y", None)])
    result, _ = hold_inputs(model, HOLD, {})
    assert attributes_of(result.graph.node[0])["axis"] == axis


def test_shapes_that_the_model_leaves_open_are_the_users() -> None:
    model = model_of([node("Identity", ["x"], ["y"])], [value("x", None)], [value("y", None)])
    with pytest.raises(ConfigError, match="inputs that are held must be images"):
        hold_inputs(model, HOLD, {})
    result, _ = hold_inputs(model, HoldSettings(tolerances=(1, 2, 3)), {"x": (1, 8, 9, 3)})
    assert attributes_of(result.graph.node[0])["axis"] == 3


def test_what_cannot_be_held_is_named() -> None:
    half = model_of(
        [node("Identity", ["x"], ["y"])], [value("x", [1, 3, 4, 5], TensorProto.FLOAT16)], [value("y", None)]
    )
    with pytest.raises(ConfigError, match="float32 or uint8, which none of the model's is: x"):
        hold_inputs(half, HOLD, {})
    with pytest.raises(ConfigError, match="--hold has 2 tolerances, but the input 'x' has 4 channels"):
        hold_inputs(conv_model(), HoldSettings(tolerances=(1, 2)), {})
