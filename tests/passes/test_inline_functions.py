"""Functions with convolutions are inlined, others are left alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import helper

from reuse_compiler.errors import ModelError
from reuse_compiler.passes.inline_functions import functions_with_convolutions, inline_functions
from tests.passes.models import OPSET, conv_model, model_of, operators, random_array, run, tensor, value

node = helper.make_node
COMPATIBLE_OPSET = 16  # Conv and Relu mean the same as in OPSET
OTHER_OPSET = 13  # Relu had another definition


def function(name: str, nodes: list[onnx.NodeProto], opset: int = OPSET) -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a", "b"], ["c"], nodes, opsets)


def call(name: str, source: str, target: str) -> onnx.NodeProto:
    return node(name, [source, "w"], [target], name=f"call_{name}", domain="local")


def function_model(conv_opset: int = OPSET, outer_opset: int = OPSET) -> onnx.ModelProto:
    """Computes y = plain(outer(block(x))), where `outer` calls `block`, which holds a Conv, and `plain` does not."""
    block = [node("Conv", ["a", "b"], ["t"], name="conv", pads=[1] * 4), node("Relu", ["t"], ["c"], name="relu")]
    functions = [
        function("block", block, conv_opset),
        function("outer", [node("block", ["a", "b"], ["t"], domain="local"), node("Relu", ["t"], ["c"])], outer_opset),
        function("plain", [node("Mul", ["a", "a"], ["c"])]),
    ]
    calls = [call("block", "x", "p"), call("outer", "p", "q"), call("plain", "q", "y")]
    return model_of(
        calls,
        [value("x", [1, 4, 8, 8])],
        [value("y", None)],
        [tensor("w", random_array(4, 4, 3, 3))],
        functions=functions,
        domains=["local"],
    )


FEED = {"x": random_array(1, 4, 8, 8)}


def test_functions_with_convolutions_are_found_through_calls() -> None:
    assert functions_with_convolutions(function_model()) == {("local", "block"), ("local", "outer")}


def test_only_they_are_inlined() -> None:
    model = function_model()
    result = inline_functions(model)
    assert result is not model
    assert operators(result.graph) == ["Conv", "Relu", "Conv", "Relu", "Relu", "plain"]
    assert [f.name for f in result.functions] == ["plain"]
    assert len({n.name for n in result.graph.node if n.op_type == "Conv"}) == 2
    np.testing.assert_array_equal(run(result, FEED)[0], run(model, FEED)[0])


def test_a_model_without_such_functions_is_not_changed() -> None:
    model = conv_model()
    assert inline_functions(model) is model


def test_functions_that_are_never_called_stay() -> None:
    model = function_model()
    del model.graph.node[:2]
    model.graph.node[0].input[0] = "x"
    assert inline_functions(model) is model


def test_an_older_opset_with_the_same_operators_is_no_obstacle() -> None:
    model = function_model(conv_opset=COMPATIBLE_OPSET)
    result = inline_functions(model)
    assert result is not model
    assert operators(result.graph).count("Conv") == 2
    np.testing.assert_array_equal(run(result, FEED)[0], run(model, FEED)[0])


def test_functions_of_another_opset_stay_and_so_do_those_that_they_call() -> None:
    result = inline_functions(function_model(outer_opset=OTHER_OPSET))
    assert operators(result.graph) == ["Conv", "Relu", "outer", "plain"]
    assert [f.name for f in result.functions] == ["block", "outer", "plain"]


def test_a_call_of_another_opset_inside_an_inlined_function_stays() -> None:
    model = function_model(conv_opset=OTHER_OPSET)
    result = inline_functions(model)
    assert result is not model
    assert operators(result.graph) == ["block", "block", "Relu", "plain"]
    np.testing.assert_array_equal(run(result, FEED)[0], run(model, FEED)[0])


def test_what_describes_the_model_survives() -> None:
    model = function_model()
    model.doc_string, model.graph.doc_string, model.producer_name = "model", "graph", "producer"
    model.metadata_props.add(key="k", value="v")
    result = inline_functions(model)
    assert (result.doc_string, result.graph.doc_string, result.producer_name) == ("model", "graph", "producer")
    assert list(result.metadata_props) == list(model.metadata_props)
    assert list(result.opset_import) == list(model.opset_import)
    assert list(result.graph.initializer) == list(model.graph.initializer)


def nested(depth: int, calls: int) -> onnx.ModelProto:
    """Function `f1` calls `f0`, which is a Conv, `calls` times, `f2` calls `f1` so often, and so on."""
    functions = [function("f0", [node("Conv", ["a", "b"], ["c"], pads=[1] * 4)])]
    for level in range(1, depth + 1):
        steps = ["a", *(f"t{index}" for index in range(calls - 1)), "c"]
        inner = [node(f"f{level - 1}", [x, "b"], [y], domain="local") for x, y in pairwise(steps)]
        functions.append(function(f"f{level}", inner))
    model = function_model()
    del model.functions[:], model.graph.node[:]
    model.functions.extend(functions)
    model.graph.node.append(call(f"f{depth}", "x", "y"))
    return model


def test_calls_of_calls_are_inlined() -> None:
    assert operators(inline_functions(nested(3, 2)).graph) == ["Conv"] * 8


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (nested(25, 2), "has 33554432 nodes once its functions with convolutions are inlined"),
        (nested(500, 1), "onnx cannot inline the model's functions: .*depth.*; export it without functions"),
    ],
)
def test_functions_that_grow_without_bound_are_refused(model: onnx.ModelProto, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        inline_functions(model)


def test_a_function_that_calls_itself_is_refused() -> None:
    model = nested(2, 1)
    model.functions[0].node.append(node("f1", ["a", "b"], ["z"], domain="local"))
    with pytest.raises(ModelError, match=r"function 'f[01]' calls itself"):
        inline_functions(model)


def test_an_operator_set_beyond_all_numbers_keeps_its_calls() -> None:
    assert "block" in operators(inline_functions(function_model(conv_opset=2**40)).graph)
