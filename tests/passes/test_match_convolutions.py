"""Every Conv-like node becomes a layer with a name, and takes its activation in where nobody else looks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reuse_compiler.graph.constants import ConstantFinder
from reuse_compiler.graph.view import GraphView
from reuse_compiler.passes.layer import Layer
from reuse_compiler.passes.match_convolutions import FLOAT32_MAX, match_convolutions
from reuse_compiler.reuse.activation import RELU, Activation
from tests.passes.models import conv_model, model_of, random_array, tensor, value
from tests.passes.test_inline_functions import OTHER_OPSET, function_model

node = helper.make_node
SIX = tensor("six", np.float32(6))
ZERO = tensor("zero", np.float32(0))
NAN = tensor("nan", np.float32(math.nan))


def match(model: onnx.ModelProto) -> list[Layer]:
    view = GraphView(model)
    return match_convolutions(view, ConstantFinder(view))


@pytest.mark.parametrize(
    ("activation", "opset", "function"),
    [
        (node("Relu", ["c"], ["y"]), 17, RELU),
        (node("LeakyRelu", ["c"], ["y"]), 17, Activation(0.01)),
        (node("LeakyRelu", ["c"], ["y"], alpha=0.25), 17, Activation(0.25)),
        (node("Clip", ["c", "zero", "six"], ["y"]), 17, Activation(1.0, 0.0, 6.0)),
        (node("Clip", ["c"], ["y"]), 17, Activation(1.0, -math.inf, math.inf)),
        (node("Clip", ["c", "", "six"], ["y"]), 11, Activation(1.0, -math.inf, 6.0)),
        (node("Clip", ["c", "zero"], ["y"]), 13, Activation(1.0, 0.0, math.inf)),
        (node("Clip", ["c"], ["y"], min=0.0, max=6.0), 10, Activation(1.0, 0.0, 6.0)),
        (node("Clip", ["c"], ["y"], max=1.0), 6, Activation(1.0, -FLOAT32_MAX, 1.0)),
    ],
)
def test_activations(activation: onnx.NodeProto, opset: int, function: Activation) -> None:
    (layer,) = match(conv_model(activation=activation, initializers=[SIX, ZERO], opset=opset))
    assert layer.activation is not None
    assert layer.output == "y" and layer.activation.function == pytest.approx(function)


@pytest.mark.parametrize(
    "activation",
    [
        node("Sigmoid", ["c"], ["y"]),
        node("Relu", ["c"], ["y"], domain="other"),
        node("Clip", ["c", "zero", "pair"], ["y"]),
        node("Clip", ["c", "zero", "fed"], ["y"]),
        node("Clip", ["six", "zero", "c"], ["y"]),
        node("Clip", ["c", "nan", "six"], ["y"]),
        node("LeakyRelu", ["c"], ["y"], alpha=math.nan),
    ],
)
def test_other_consumers_stay(activation: onnx.NodeProto) -> None:
    model = conv_model(activation=activation, initializers=[SIX, ZERO, NAN, tensor("pair", random_array(2))])
    model.opset_import.add(domain="other", version=1)
    model.graph.input.append(value("fed", []))
    (layer,) = match(model)
    assert layer.activation is None and layer.output == "c"


def test_a_result_that_somebody_else_sees_is_not_fused() -> None:
    relu = node("Relu", ["c"], ["y"])
    as_output = conv_model(activation=relu)
    as_output.graph.output.append(value("c", None))
    read_twice = conv_model(activation=relu)
    read_twice.graph.node.append(node("Neg", ["c"], ["z"]))
    for model in (as_output, read_twice):
        assert match(model)[0].activation is None


def test_a_result_that_a_body_reads_is_not_fused() -> None:
    def body(name: str) -> onnx.GraphProto:
        return helper.make_graph([node("Relu", ["c"], [f"{name}_r"])], name, [], [value(f"{name}_r", None)])

    model = conv_model(activation=node("Relu", ["c"], ["y"]))
    model.graph.input.append(value("cond", [], TensorProto.BOOL))
    model.graph.node.append(node("If", ["cond"], ["z"], then_branch=body("t"), else_branch=body("e")))
    assert match(model)[0].activation is None
    del model.graph.node[1]  # now only the bodies read it, and they are other graphs
    model.graph.output[0].name = "z"
    assert match(model)[0].activation is None


def named(*names: str) -> onnx.ModelProto:
    nodes, last = [], "x"
    for index, name in enumerate(names):
        nodes.append(node("Conv", [last, "w"], [f"t{index}"], name=name, pads=[1] * 4))
        last = f"t{index}"
    return model_of(nodes, [value("x", [1, 4, 8, 8])], [value(last, None)], [tensor("w", random_array(4, 4, 3, 3))])


def test_layers_are_named_after_their_node_or_output() -> None:
    assert [layer.name for layer in match(named("a", "", "b"))] == ["a", "t1", "b"]
    assert [layer.name for layer in match(named("a", "a", "a"))] == ["a", "a#2", "a#3"]


def test_names_of_other_nodes_are_taken() -> None:
    model = named("", "")
    model.graph.node.append(node("Relu", ["t1"], ["r"], name="t0"))
    assert [layer.name for layer in match(model)] == ["t0#2", "t1"]


@pytest.mark.parametrize(
    ("op", "domain", "inputs", "sentence"),
    [
        ("ConvTranspose", "", 2, "transposed"),
        ("ConvInteger", "", 2, "integer"),
        ("DeformConv", "", 3, "deformable"),
        ("QLinearConv", "com.microsoft", 8, "quantised"),
        ("FusedConv", "com.microsoft", 2, "before optimisation"),
        ("NhwcConv", "com.microsoft", 2, "before optimisation"),
        ("Conv", "com.ms.internal.nhwc", 2, "before optimisation"),
        ("ReuseConv", "ai.reuse", 2, "already"),
    ],
)
def test_other_convolutions_are_listed_with_a_reason(op: str, domain: str, inputs: int, sentence: str) -> None:
    conv = node(op, ["x"] * inputs, ["y"], name="conv", domain=domain)
    (layer,) = match(model_of([conv], [value("x", [1])], [value("y", None)], domains=[domain] if domain else []))
    assert layer.refusal is not None and sentence in layer.refusal


def test_what_is_not_a_convolution_is_not_listed() -> None:
    nodes = [node("MatMul", ["x", "x"], ["c"]), node("Conv", ["c"], ["y"], domain="somebody.else")]
    assert match(model_of(nodes, [value("x", [1, 1])], [value("y", None)], domains=["somebody.else"])) == []


def test_calls_that_could_not_be_inlined_are_listed() -> None:
    names = {layer.name: layer.refusal for layer in match(function_model(conv_opset=OTHER_OPSET))}
    assert list(names) == ["call_block", "call_outer"]
    assert all(refusal and "cannot be inlined" in refusal for refusal in names.values())


def test_bodies_are_searched_in_graph_order() -> None:
    def body(name: str, **attributes: Any) -> onnx.GraphProto:
        conv = node("Conv", ["x", "w"], [f"{name}_y"], name=name, **attributes)
        return helper.make_graph([conv], name, [], [value(f"{name}_y", None)])

    branch = node("If", ["cond"], ["y"], name="if", then_branch=body("in_then"), else_branch=body("in_else"))
    nodes = [node("Conv", ["x", "w"], ["z"], name="first"), branch, node("Conv", ["x", "w"], ["v"], name="last")]
    inputs = [value("x", [1, 4, 8, 8]), value("cond", [], TensorProto.BOOL)]
    outputs = [value(name, None) for name in ("y", "z", "v")]
    layers = match(model_of(nodes, inputs, outputs, [tensor("w", random_array(4, 4, 3, 3))]))
    assert [layer.name for layer in layers] == ["first", "in_else", "in_then", "last"]  # make_node sorts attributes
    assert [layer.in_main for layer in layers] == [True, False, False, True]
