"""Compiling a model takes steps in proportion to its length. Steps are counted, so that no clock is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from types import FrameType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reuse_compiler.pipeline import lower
from tests.passes.models import EXACT, model_of, operators, random_array, tensor, value

node = helper.make_node
W = tensor("w", random_array(4, 4, 3, 3))


def conv(source: str, target: str, weights: str = "w") -> onnx.NodeProto:
    return node("Conv", [source, weights], [target], name="conv", pads=[1] * 4)


def names(length: int) -> list[str]:
    return ["x", *(f"t{index}" for index in range(length - 1)), "y"]


def model(nodes: list[onnx.NodeProto], *constants: onnx.TensorProto) -> onnx.ModelProto:
    inputs = [value("x", [1, 4, 8, 8]), value("cond", [], TensorProto.BOOL)]
    return model_of(nodes, inputs, [value("y", None)], [W, *constants])


def elementwise(length: int) -> onnx.ModelProto:
    chain = [node("Sigmoid", [before], [after]) for before, after in pairwise(names(length))]
    chain[0].input[0] = "c"
    return model([conv("x", "c"), *chain])


def elementwise_before_a_pool(length: int) -> onnx.ModelProto:
    chain = elementwise(length)
    chain.graph.node[-1].output[0] = "e"
    chain.graph.node.append(node("MaxPool", ["e"], ["p"], kernel_shape=[2, 2]))
    chain.graph.node.append(conv("p", "y"))
    chain.graph.value_info.extend(value(name, [1, 4, 8, 8]) for name in names(length)[1:-1])
    return chain


def scaled_by_computed_constants(length: int) -> onnx.ModelProto:
    scales = names(length)
    constants = [node("Neg", [f"s{before}"], [f"s{after}"]) for before, after in pairwise(scales)]
    steps = [node("Mul", [before, f"s{after}"], [after]) for before, after in pairwise(scales)]
    steps[0].input[0] = "c"
    return model([*constants, conv("x", "c"), *steps], tensor("sx", np.ones((1, 1, 1, 1), np.float32)))


def convolutions_of_one_name(length: int) -> onnx.ModelProto:
    return model([conv(before, after) for before, after in pairwise(names(length))])


def weights_that_are_computed(length: int) -> onnx.ModelProto:
    nodes, constants = [], []
    for before, after in pairwise(names(length)):
        nodes.append(node("Transpose", [f"w{after}"], [f"v{after}"], perm=[3, 2, 0, 1]))
        nodes.append(conv(before, after, f"v{after}"))
        constants.append(tensor(f"w{after}", random_array(3, 3, 4, 4)))
    return model(nodes, *constants)


def bodies(length: int) -> onnx.ModelProto:
    nodes = []
    for before, after in pairwise(names(length)):
        branches = [
            helper.make_graph([conv(before, f"{after}{kind}")], kind, [], [value(f"{after}{kind}", None)])
            for kind in ("then", "else")
        ]
        nodes.append(node("If", ["cond"], [after], then_branch=branches[0], else_branch=branches[1]))
    return model(nodes)


def steps(build: Callable[[int], onnx.ModelProto], length: int) -> int:
    """Returns how many functions are called while a model of that length is compiled."""
    called, compiled = 0, build(length)

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal called
        called += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        lower(compiled, EXACT)
    finally:
        sys.setprofile(before)
    return called


@pytest.mark.parametrize(
    "build",
    [
        elementwise,
        elementwise_before_a_pool,
        scaled_by_computed_constants,
        convolutions_of_one_name,
        weights_that_are_computed,
        bodies,
    ],
)
def test_twice_the_length_takes_twice_the_steps(build: Callable[[int], onnx.ModelProto]) -> None:
    lower(build(2), EXACT)  # what is done once in a process
    short, middle, long = (steps(build, length) for length in (60, 120, 240))
    assert long - middle < 2.3 * (middle - short)


@pytest.mark.parametrize("build", [elementwise, elementwise_before_a_pool])
def test_thousands_of_nodes(build: Callable[[int], onnx.ModelProto]) -> None:
    lowered = lower(build(5000), EXACT)
    assert operators(lowered.model.graph)[:2] == ["ReuseConv", "Sigmoid"]
    pools = [node for node in lowered.model.graph.node if (node.domain, node.op_type) == ("ai.reuse", "MaxPool")]
    assert bool(pools) == (build is elementwise_before_a_pool)
