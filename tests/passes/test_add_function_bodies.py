"""A compiled model runs without the operator library, and computes what the original does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, shape_inference
from onnx.reference import ReferenceEvaluator

import reuse_compiler
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.add_function_bodies import add_function_bodies
from reuse_compiler.passes.choose_parameters import choose_parameters, plan_of
from reuse_compiler.pipeline import apply_plan, find_layers, lower
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.plan import LayerWeights
from tests.comparison import assert_close
from tests.passes.models import EXACT, conv_model, model_of, operators, random_array, run, tensor, value

node = helper.make_node
X = random_array(2, 4, 9, 8)
OPSETS = [7, 10, 11, 12, 13, 17, 21]
LOWERINGS = ["fused", "staged"]
quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def run_alone(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """Runs a model in onnxruntime without the operator library."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def assert_runs_alone(original: onnx.ModelProto, compiled: onnx.ModelProto, feeds: dict[str, Any]) -> None:
    """Holds for onnxruntime, ONNX's reference, its checker and its shape inference."""
    onnx.checker.check_model(compiled, full_check=False)
    expected = run_alone(original, feeds)
    for actual, wanted in zip(run_alone(compiled, feeds), expected, strict=True):
        assert_close(actual, wanted, what="onnxruntime without the library")
    if all(step.op_type != "LeakyRelu" for function in compiled.functions for step in function.node):
        # ONNX's reference (1.23) has no LeakyRelu in functions: its run() does not know their attributes.
        for actual, wanted in zip(ReferenceEvaluator(compiled).run(None, feeds), expected, strict=True):
            assert_close(np.asarray(actual), wanted, what="ONNX's reference")
    for actual, wanted in zip(run(compiled, feeds), expected, strict=True):
        assert_close(actual, wanted, what="onnxruntime with the library")


def activations(opset: int) -> list[tuple[onnx.NodeProto | None, list[onnx.TensorProto]]]:
    limits = [tensor("low", np.float32(-0.5)), tensor("high", np.float32(1.5))]
    clip = node("Clip", ["c", "low", "high"], ["y"])
    if opset < 11:
        clip, limits = node("Clip", ["c"], ["y"], min=-0.5, max=1.5), []
    return [
        (None, []),
        (node("Relu", ["c"], ["y"]), []),
        (node("LeakyRelu", ["c"], ["y"], alpha=0.3), []),
        (clip, limits),
    ]


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("kind", range(4))
def test_operator_sets_and_activations(opset: int, kind: int, lowering: str) -> None:
    activation, constants = activations(opset)[kind]
    model = conv_model(
        shape=["N", 4, "H", "W"], activation=activation, initializers=constants, opset=opset, pads=[1] * 4
    )
    compiled = lower(model, EXACT.model_copy(update={"lowering": lowering})).model
    assert compiled.ir_version >= 8 and all(f.domain == "ai.reuse" for f in compiled.functions)
    assert_runs_alone(model, compiled, {"x": X})


@quick
@given(
    attributes=st.fixed_dictionaries(
        {
            "strides": st.lists(st.integers(1, 2), min_size=2, max_size=2),
            "group": st.sampled_from([1, 2]),
            "bias": st.booleans(),
        }
    ),
    padding=st.sampled_from(
        [
            {"pads": [1, 0, 2, 1]}, {"pads": [2, 1, 0, 1], "dilations": [2, 1]}, {"auto_pad": "SAME_UPPER"},
            {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"}, {},
        ]
    ),
    lowering=st.sampled_from(LOWERINGS),
)  # fmt: skip
def test_geometries(attributes: dict[str, Any], padding: dict[str, Any], lowering: str) -> None:
    weights = (6, 4 // attributes["group"], 3, 2)
    model = conv_model(weights=weights, shape=["N", 4, "H", "W"], **attributes, **padding)
    compiled = lower(model, EXACT.model_copy(update={"lowering": lowering})).model
    assert_runs_alone(model, compiled, {"x": X})


def test_one_dimension() -> None:
    model = conv_model(weights=(6, 2, 3), shape=(2, 4, 20), group=2, strides=[2], pads=[0, 2])
    assert_runs_alone(model, lower(model, EXACT).model, {"x": random_array(2, 4, 20)})


def mixed_model() -> onnx.ModelProto:
    """Layers with all kinds of activations around pools, so that data is pixel-major in between."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], "first", pads=[1] * 4), node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], "largest", kernel_shape=[3, 3], pads=[1] * 4),
        node("Conv", ["c", "w", "bias"], ["d"], "second", auto_pad="SAME_UPPER"),
        node("LeakyRelu", ["d"], ["e"], alpha=0.1),
        node("AveragePool", ["e"], ["f"], "mean", kernel_shape=[2, 2], strides=[2, 1], pads=[1, 0, 0, 1]),
        node("Conv", ["f", "w"], ["g"], "third"), node("Clip", ["g", "low", "high"], ["y"]),
    ]  # fmt: skip
    constants = [tensor("w", 0.3 * random_array(4, 4, 3, 3)), tensor("bias", random_array(4))]
    constants += [tensor("low", np.float32(-0.5)), tensor("high", np.float32(1.5))]
    return model_of(nodes, [value("x", ["N", 4, "H", "W"])], [value("y", [None] * 4)], constants)


def test_orders_of_data_and_activations_together() -> None:
    model = mixed_model()
    compiled = lower(model, EXACT).model
    assert operators(compiled.graph) == ["ReuseConv", "MaxPool", "ReuseConv", "AveragePool", "ReuseConv"]
    assert sorted(function.name for function in compiled.functions) == ["AveragePool", "MaxPool", "ReuseConv"]
    assert_runs_alone(model, compiled, {"x": random_array(2, 4, 12, 13)})


def test_shapes_are_inferred_through_the_bodies() -> None:
    compiled = lower(conv_model(weights=(6, 4, 3, 3), strides=[2, 1]), EXACT).model
    del compiled.graph.output[0].type.tensor_type.shape.dim[:]
    compiled.graph.output[0].type.tensor_type.ClearField("shape")
    del compiled.graph.value_info[:]
    inferred = shape_inference.infer_shapes(compiled, strict_mode=True)
    assert [dim.dim_value for dim in inferred.graph.output[0].type.tensor_type.shape.dim] == [1, 6, 3, 6]


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_the_original_weights_are_those_of_the_body(lowering: Any) -> None:
    model = conv_model(activation=node("Relu", ["c"], ["y"]))
    prepared = find_layers(model)
    plan = plan_of(choose_parameters(prepared.layers, EXACT, None, Fitted(), {}))
    fitted = LayerWeights(random_array(6, 4, 3, 3, seed=5), random_array(6, seed=6))
    plan = {name: replace(layer, weights=fitted) for name, layer in plan.items()}
    compiled = apply_plan(prepared, plan, lowering, fallback=True).model
    feeds = {"x": random_array(1, 4, 8, 8)}
    assert_close(run_alone(compiled, feeds)[0], run_alone(model, feeds)[0])
    assert np.abs(run(compiled, feeds)[0] - run_alone(model, feeds)[0]).max() > 0.1


@pytest.mark.parametrize("opset", OPSETS)
def test_nothing_repeats_enough_where_the_library_is_missing(opset: int) -> None:
    """The If takes the branch of the original's nodes there, and the other one with the library."""

    def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph(nodes, nodes[0].op_type, [], [value(nodes[-1].output[0], [None] * 4)])

    kinds: dict[str, Any] = {"windows": [1, 3], "gains": [1.0, 1.0], "domain": "ai.reuse"}
    nodes = [
        node("Redundancy", ["x"], ["condition"], "first", **kinds),
        node("Redundancy", ["x"], ["enough", "shares"], "second", **kinds, strides=[1, 2], samples=9),
        node("If", ["condition"], ["y"],
             then_branch=branch(node("MaxPool", ["x"], ["a"], "pool", kernel_shape=[1, 1], domain="ai.reuse"),
                                node("Neg", ["a"], ["b"])),
             else_branch=branch(node("Identity", ["x"], ["c"]))),
    ]  # fmt: skip
    outputs = [value("y", [None] * 4), value("enough", [], onnx.TensorProto.BOOL), value("shares", [None])]
    model = model_of(nodes, [value("x", ["N", 2, "H", "W"])], outputs, opset=opset, domains=["ai.reuse"])
    add_function_bodies(model)
    onnx.checker.check_model(model)
    x = np.ones((2, 2, 5, 5), np.float32)
    for image in (x, np.full_like(x, np.nan), np.full_like(x, np.inf), x[:0]):
        for results in (run_alone(model, {"x": image}), ReferenceEvaluator(model).run(None, {"x": image})):
            y, enough, shares = map(np.asarray, results)
            np.testing.assert_array_equal(y, image)
            assert not enough and enough.shape == () and shares.shape == (0,)
    y, enough, shares = run(model, {"x": x})
    assert (y == -1).all() and enough and shares.shape == (2,)


def test_a_function_has_shares_only_where_a_node_has_them() -> None:
    redundancy = node("Redundancy", ["x"], ["enough"], windows=[1], gains=[1.0], domain="ai.reuse")
    model = model_of([redundancy], [value("x", [1, 2, 3, 4])], [value("enough", [], onnx.TensorProto.BOOL)])
    model.opset_import.add(domain="ai.reuse", version=1)
    add_function_bodies(model)
    assert list(model.functions[0].output) == ["enough"] and list(model.graph.node[0].output) == ["enough"]
    assert run_alone(model, {"x": random_array(1, 2, 3, 4)}) == [False]


def test_nothing_is_held_where_the_library_is_missing() -> None:
    """Nodes have attributes of their own, which the function need not have."""
    nodes = [
        node("Hold", ["x"], ["held"], "first", tolerances=[9.0], domain="ai.reuse"),
        node("Hold", ["held"], ["y"], "second", tolerances=[8.0, 9.0], opening=1, domain="ai.reuse"),
    ]
    model = model_of(nodes, [value("x", ["N", 2, "H", "W"])], [value("y", [None] * 4)], domains=["ai.reuse"])
    add_function_bodies(model)
    onnx.checker.check_model(model)
    images = [random_array(1, 2, 5, 6, seed=seed) for seed in range(2)]
    session = reuse_compiler.session(model.SerializeToString())
    for x in images:
        np.testing.assert_array_equal(run_alone(model, {"x": x})[0], x)
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], images[0])


def test_weights_are_not_kept_twice_without_need() -> None:
    model = conv_model(weights=(64, 32, 3, 3), shape=(1, 32, 8, 8))
    sizes = [
        lower(model, EXACT.model_copy(update={"fallback": fallback})).model.ByteSize() for fallback in (False, True)
    ]
    assert sizes[1] < sizes[0] + 2000


def test_without_a_fallback_there_is_no_function() -> None:
    compiled = lower(conv_model(), EXACT.model_copy(update={"fallback": False})).model
    assert not compiled.functions and len(compiled.graph.node[0].input) == 3
    with pytest.raises(Exception, match="ReuseConv"):
        run_alone(compiled, {"x": random_array(1, 4, 8, 8)})


def test_the_kernels_run_where_the_library_is() -> None:
    compiled = lower(mixed_model(), EXACT).model
    session = reuse_compiler.session(compiled.SerializeToString())
    session.run(None, {"x": random_array(1, 4, 12, 13)})
    runs = sorted((entry.op, entry.runs) for entry in reuse_compiler.statistics(session))
    assert runs == [("AveragePool", 1), ("MaxPool", 1), *[("ReuseConv", 1)] * 3]


def test_compiling_a_compiled_model_again_leaves_its_layers() -> None:
    model = mixed_model()
    once = lower(model, CompileOptions(family="exact", force=True, layers="second")).model
    twice = lower(once, EXACT).model
    assert [each.op_type for each in twice.graph.node].count("ReuseConv") == 3
    assert_runs_alone(model, twice, {"x": random_array(2, 4, 12, 13)})
