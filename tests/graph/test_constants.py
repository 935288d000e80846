"""Constants are found wherever they are and computed where operators compute them; everything else says why not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reuse_compiler.graph.constants import Constant, ConstantFinder, NotConstantError
from reuse_compiler.graph.shapes import infer_shapes
from reuse_compiler.graph.tensors import to_array
from reuse_compiler.graph.view import GraphView
from tests.passes.models import model_of, random_array, tensor, value

W = random_array(3, 4)
node = helper.make_node


def find(nodes: list[onnx.NodeProto], initializers: list[TensorProto] | None = None, **model_options: Any) -> Constant:
    """Finds what the last input of the last node holds."""
    initializers = [tensor("w", W)] if initializers is None else initializers
    extra = model_options.pop("inputs", [])
    nodes = [*nodes, node("Magic", ["x", "k"], ["y"], domain="other")]
    inputs = [value("x", [1]), *extra]
    model = model_of(nodes, inputs, [value("y", None)], initializers, domains=["other"], **model_options)
    view = GraphView(model)
    ref = view.nodes()[-1]
    return ConstantFinder(view).find(ref.node.inputs[-1], ref.scope)


def test_initializers_are_used_as_they_are() -> None:
    found = find([], [tensor("k", W)])
    assert found.in_graph and found.tensor.name == "k"
    np.testing.assert_array_equal(to_array(found.tensor), W)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": tensor("", W)}, W),
        ({"value_float": 1.5}, np.float32(1.5)),
        ({"value_floats": [1.5, 2.0]}, np.array([1.5, 2.0], np.float32)),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4])),
    ],
)
def test_constant_nodes(attributes: dict[str, Any], expected: Any) -> None:
    found = find([node("Constant", [], ["k"], **attributes)])
    assert found.in_graph and found.tensor.name == "k"
    array = to_array(found.tensor)
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == np.asarray(expected).dtype


def test_identities_lead_to_their_source() -> None:
    found = find([node("Identity", ["w"], ["i"]), node("Identity", ["i"], ["k"])])
    assert found.in_graph and found.tensor.name == "w"


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Transpose", ["w"], ["k"], perm=[1, 0])], W.T),
        ([node("Cast", ["w"], ["k"], to=TensorProto.FLOAT16)], W.astype(np.float16)),
        ([node("Mul", ["w", "w"], ["m"]), node("Transpose", ["m"], ["t"]), node("Neg", ["t"], ["k"])], -(W * W).T),
        ([node("Shape", ["w"], ["s"]), node("ConstantOfShape", ["s"], ["k"])], np.zeros((3, 4), np.float32)),
        ([node("Identity", ["w"], ["i"]), node("Clip", ["i", "", ""], ["k"])], W),
    ],
)
def test_operators_on_constants_are_computed(nodes: list[onnx.NodeProto], expected: Any) -> None:
    found = find(nodes)
    assert not found.in_graph
    array = to_array(found.tensor)
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype


def test_a_constant_of_an_outer_graph_is_visible_in_a_body() -> None:
    inner = node("Magic", ["x", "k"], ["o"], domain="other")
    body = helper.make_graph([node("Transpose", ["w"], ["k"]), inner], "body", [], [value("o", None)])
    branch = node("If", ["cond"], ["y"], then_branch=body, else_branch=body)
    inputs = [value("x", [1]), value("cond", [], TensorProto.BOOL)]
    model = model_of([branch], inputs, [value("y", None)], [tensor("w", W)], domains=["other"])
    view = GraphView(model)
    ref = next(ref for ref in view.nodes() if ref.proto.op_type == "Magic")
    np.testing.assert_array_equal(to_array(ConstantFinder(view).find(ref.node.inputs[1], ref.scope).tensor), W.T)


SCALE, ZERO = tensor("scale", np.float32(0.1)), tensor("zero", np.int8(0))


@pytest.mark.parametrize(
    ("nodes", "options", "sentence"),
    [
        ([], {"inputs": [value("k", [1])]}, "is fed at run time"),
        ([node("Neg", ["x"], ["k"])], {}, "is fed at run time"),
        ([node("Neg", ["x"], ["n"]), node("Mul", ["w", "n"], ["k"])], {}, "is computed from 'x', which is fed at run"),
        (
            [node("Magic", ["w"], ["m"], domain="other"), node("Neg", ["m"], ["k"])],
            {},
            "is computed from 'm', which is computed at run time by a node of type Magic",
        ),
        ([node("Neg", ["b"], ["a"]), node("Neg", ["a"], ["b"]), node("Neg", ["a"], ["k"])], {}, "from itself"),
        ([node("Identity", [], ["k"])], {}, "but not by onnx's reference"),
        ([], {"initializers": [tensor("k", W)], "inputs": [value("k", [3, 4])]}, "which callers may override"),
        (
            [node("Neg", ["d"], ["k"])],
            {"initializers": [tensor("d", W)], "inputs": [value("d", [3, 4])]},
            "which callers may override",
        ),
        ([node("RandomNormal", [], ["k"], shape=[3])], {}, "at run time by a node of type RandomNormal"),
        ([node("Magic", ["w"], ["k"], domain="other")], {}, "at run time by a node of type Magic"),
        (
            [node("DequantizeLinear", ["q", "scale", "zero"], ["k"])],
            {"initializers": [tensor("q", np.ones(4, np.int8)), SCALE, ZERO]},
            "is quantised: a DequantizeLinear computes it",
        ),
        (
            [node("DequantizeLinear", ["q", "scale", "zero"], ["d"]), node("Identity", ["d"], ["k"])],
            {"initializers": [tensor("q", np.ones(4, np.int8)), SCALE, ZERO]},
            "is quantised",
        ),
        ([node("Constant", [], ["k"], value_string="text")], {}, "without a dense number value"),
        ([node("Reshape", ["w", "w"], ["k"])], {}, "but not by onnx's reference"),
    ],
)
def test_everything_else_says_why(nodes: list[onnx.NodeProto], options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NotConstantError, match=sentence):
        find(nodes, **options)


def test_initializers_of_old_models_are_inputs_as_well() -> None:
    found = find([], [tensor("k", W)], inputs=[value("k", [3, 4])], ir_version=3, opset=8)
    assert found.tensor.name == "k"


def test_sparse_initializers_are_not_supported() -> None:
    model = model_of(
        [node("Magic", ["x", "k"], ["y"], domain="other")], [value("x", [1])], [value("y", None)], domains=["other"]
    )
    values, indices = tensor("k", np.ones(1, np.float32)), tensor("", np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))
    view = GraphView(model)
    with pytest.raises(NotConstantError, match="sparse tensor"):
        ConstantFinder(view).find(view.nodes()[0].node.inputs[1], view.main)


@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_the_type_alone_of_a_tensor_that_is_fed_is_constant(element: int) -> None:
    """As torch.onnx.export writes an absent bias: Expand(CastLike(0, x))."""
    nodes = [
        node("Constant", [], ["zero"], value_float=0.5),
        node("Relu", ["x"], ["r"]),
        node("CastLike", ["zero", "r"], ["like"]),
        node("Expand", ["like", "sizes"], ["k"]),
        node("Magic", ["x", "k"], ["y"], domain="other"),
    ]
    sizes = tensor("sizes", np.array([3]))
    model = model_of(nodes, [value("x", [1], element)], [value("y", None)], [sizes], domains=["other"])
    view = GraphView(model)
    ref = view.nodes()[-1]
    found = ConstantFinder(view, infer_shapes(model, {})).find(ref.node.inputs[1], ref.scope)
    assert found.tensor.data_type == element
    np.testing.assert_array_equal(to_array(found.tensor), [0.5] * 3)
    with pytest.raises(NotConstantError, match="is computed from 'x', which is fed at run time"):
        ConstantFinder(view).find(ref.node.inputs[1], ref.scope)


@pytest.mark.parametrize("op_type", ["Neg", "Identity"])
@pytest.mark.parametrize("source", ["w", "x"])
def test_depth_is_no_limit(op_type: str, source: str) -> None:
    names = [source, *(f"n{index}" for index in range(2999)), "k"]
    nodes = [node(op_type, [before], [after]) for before, after in pairwise(names)]
    if source == "w":
        np.testing.assert_array_equal(find(nodes).array, W)
    else:
        with pytest.raises(NotConstantError, match="is computed from 'x', which is fed at run time"):
            find(nodes)


def test_a_constant_larger_than_memory_is_not_computed() -> None:
    nodes = [
        node("Expand", ["one", "sizes"], ["huge"]),
        node("ReduceSum", ["huge"], ["k"]),
        node("Add", ["x", "k"], ["y"]),
    ]
    constants = [tensor("one", np.float32(1)), tensor("sizes", np.array([2**20, 2**20]))]
    model = model_of(nodes, [value("x", [1])], [value("y", None)], constants)
    view = GraphView(model)
    ref = view.nodes()[-1]
    with pytest.raises(NotConstantError, match="through a tensor of over 268435456 elements"):
        ConstantFinder(view, infer_shapes(model, {})).find(ref.node.inputs[1], ref.scope)
