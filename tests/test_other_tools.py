"""Tools that know nothing of our operators go on working on a compiled model, as it declares what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime.transformers.float16 as float16
import pytest
from onnx import TensorProto, helper, shape_inference
from onnx.utils import Extractor

from reuse_compiler.pipeline import lower
from tests.comparison import assert_close
from tests.passes.models import EXACT, conv_model, model_of, operators, random_array, run, tensor, value

node = helper.make_node
NO_BODIES = EXACT.model_copy(update={"fallback": False})
"""Function bodies of our operators would tell their shapes, too, where a tool looks into them."""


def network() -> onnx.ModelProto:
    """Two layers with a pool between them, and an operator behind; nothing is declared."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="first", pads=[1] * 4),
        node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "w"], ["b"], name="second", pads=[1] * 4),
        node("Sigmoid", ["b"], ["s"]),
        node("Mul", ["s", "s"], ["y"]),
    ]
    declared = [value("x", ["N", 4, 8, "W"])], [value("y", None)]
    return model_of(nodes, *declared, [tensor("w", 0.3 * random_array(4, 4, 3, 3))])


def shapes(model: onnx.ModelProto) -> dict[str, list[int | str | None]]:
    return {
        info.name: [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims]
        for info in model.graph.value_info
        if (dims := info.type.tensor_type.shape.dim)
    }


@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize("lowering", ["fused", "staged"])
def test_shapes_are_declared_and_inferred_behind_them(lowering: str, fallback: bool) -> None:
    options = EXACT.model_copy(update={"lowering": lowering, "fallback": fallback})
    compiled = lower(network(), options).model
    expected = {"b": ["N", 4, 4, None]}
    if lowering == "fused":
        expected |= {"a/nhwc": ["N", 8, None, 4], "p/nhwc": ["N", 4, None, 4]}
    declared = shapes(compiled)
    assert expected == {name: declared.get(name) for name in expected}
    own = {name for n in compiled.graph.node if n.domain == "ai.reuse" for name in n.output}
    assert own <= {info.name for info in compiled.graph.value_info}
    inferred = shapes(shape_inference.infer_shapes(compiled, strict_mode=True))
    assert inferred["s"][:3] == ["N", 4, 4]
    assert not any(str(dim).startswith("unk__") for dims in declared.values() for dim in dims)


def test_one_dimension_is_declared() -> None:
    compiled = lower(conv_model(weights=(6, 4, 3), shape=["N", 4, 20], activation=node("Relu", ["c"], ["y"])), EXACT)
    declared = shapes(compiled.model)
    assert declared == {"conv/input": ["N", 4, 1, 20], "conv/result": ["N", 6, 1, 18]}


def test_a_layer_in_a_body_is_declared() -> None:
    def body(name: str) -> onnx.GraphProto:
        conv = node("Conv", ["x", "w"], [f"{name}_c"], name=name, pads=[1] * 4)
        outputs = [value(f"{name}_y", None)]
        return helper.make_graph([conv, node("Sigmoid", [f"{name}_c"], [f"{name}_y"])], name, [], outputs)

    branch = node("If", ["cond"], ["y"], then_branch=body("then"), else_branch=body("else"))
    inputs = [value("x", [1, 4, 8, 8]), value("cond", [], TensorProto.BOOL)]
    compiled = lower(model_of([branch], inputs, [value("y", None)], [tensor("w", random_array(4, 4, 3, 3))]), EXACT)
    graphs = [attribute.g for attribute in compiled.model.graph.node[0].attribute]
    assert all(operators(graph) == ["ReuseConv", "Sigmoid"] for graph in graphs)
    assert sorted(info.name for graph in graphs for info in graph.value_info) == ["else_c", "then_c"]


def test_sizes_that_inference_loses_leave_the_channels() -> None:
    model = conv_model()
    model.graph.input[0].CopyFrom(value("x", None))
    model.graph.node[0].output[0] = "c"
    model.graph.node.append(node("Sigmoid", ["c"], ["y"]))
    assert shapes(lower(model, EXACT).model)["c"] == [None, 6, None, None]


def test_a_part_is_extracted() -> None:
    compiled, feed = lower(network(), NO_BODIES).model, {"x": random_array(2, 4, 8, 8)}
    (expected,) = run(compiled, feed)
    part = Extractor(compiled).extract_model(["b"], ["y"])
    assert [dim.dim_value for dim in part.graph.input[0].type.tensor_type.shape.dim][1:3] == [4, 4]
    first = Extractor(compiled).extract_model(["x"], ["b"])
    assert_close(run(part, {"b": run(first, feed)[0]})[0], expected)


def test_the_rest_is_converted_to_float16() -> None:
    compiled, feed = lower(network(), NO_BODIES).model, {"x": random_array(2, 4, 8, 8)}
    (expected,) = run(compiled, feed)
    block: dict[str, Any] = {"op_block_list": ["ReuseConv", "MaxPool"], "keep_io_types": True}
    converted = float16.convert_float_to_float16(compiled, **block)
    sigmoid = next(n for n in converted.graph.node if n.op_type == "Sigmoid")
    casts = {n.output[0]: n for n in converted.graph.node if n.op_type == "Cast"}
    assert casts[sigmoid.input[0]].attribute[0].i == TensorProto.FLOAT16
    np.testing.assert_allclose(run(converted, feed)[0], expected, atol=2e-3)
