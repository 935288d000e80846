"""Whole models through all passes, run in onnxruntime: lossless layers change nothing, whatever surrounds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from reuse_compiler.graph import load_model, save_model
from reuse_compiler.graph.tensors import is_external
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.pipeline import find_layers, lower
from reuse_compiler.reference import REFERENCE_OPS
from reuse_compiler.reuse.config import Lowering
from tests.comparison import assert_close
from tests.graph.external import save_with_data
from tests.passes.models import EXACT, conv_model, model_of, operators, random_array, run, tensor, value
from tests.passes.test_inline_functions import function_model

node = helper.make_node
X = random_array(2, 4, 9, 8)
LOWERINGS = pytest.mark.parametrize("lowering", ["fused", "staged"])


def exact(lowering: str, **updates: Any) -> CompileOptions:
    return EXACT.model_copy(update={"lowering": lowering, **updates})


def assert_same_results(original: onnx.ModelProto, result: onnx.ModelProto, feeds: dict[str, Any]) -> None:
    for index, (actual, expected) in enumerate(zip(run(result, feeds), run(original, feeds), strict=True)):
        assert_close(actual, expected, what=f"output {index}")


@LOWERINGS
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False, "auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"weights": (6, 2, 3, 3), "group": 2, "pads": [1, 0, 2, 1]},
        {"weights": (6, 4, 2, 3), "strides": [2, 1], "auto_pad": "SAME_LOWER"},
        {"dilations": [2, 1], "pads": [2, 1, 0, 1]},
        {"activation": node("Relu", ["c"], ["y"])},
        {"activation": node("LeakyRelu", ["c"], ["y"], alpha=0.3)},
        {"activation": node("Clip", ["c", "low"], ["y"]), "initializers": [tensor("low", np.float32(-0.5))]},
        {"activation": node("Clip", ["c"], ["y"], min=-0.5, max=0.5), "opset": 10},
    ],
)
def test_convolutions_with_dynamic_sizes(options: dict[str, Any], lowering: str) -> None:
    model = conv_model(shape=["N", 4, "H", "W"], **options)
    lowered = lower(model, exact(lowering, shapes={"x": (1, 4, 7, 7)}))
    assert lowered.modified and lowered.outputs == {"conv": "y"} and lowered.bound == {"x": (1, 4, 7, 7)}
    assert_same_results(model, lowered.model, {"x": X})


@LOWERINGS
@pytest.mark.parametrize("opset", [11, 17])
def test_one_dimension(opset: int, lowering: str) -> None:
    model = conv_model(weights=(6, 2, 3), shape=(2, 4, 20), group=2, strides=[2], pads=[0, 2], opset=opset)
    lowered = lower(model, exact(lowering))
    assert lowered.outputs == {"conv": "y"}
    assert_same_results(model, lowered.model, {"x": random_array(2, 4, 20)})


@LOWERINGS
@pytest.mark.parametrize("inner_weights", [False, True])
def test_if(inner_weights: bool, lowering: str) -> None:
    def body(name: str) -> onnx.GraphProto:
        weights = [tensor(f"{name}_w", random_array(4, 4, 3, 3))] if inner_weights else []
        conv = node("Conv", ["x", f"{name}_w" if inner_weights else "w"], [f"{name}_c"], name="conv", pads=[1] * 4)
        relu = node("Relu", [f"{name}_c"], [f"{name}_y"])
        return helper.make_graph([conv, relu], name, [], [value(f"{name}_y", None)], weights)

    branch = node("If", ["cond"], ["y"], name="if", then_branch=body("then"), else_branch=body("else"))
    inputs = [value("x", ["N", 4, 9, 8]), value("cond", [], TensorProto.BOOL)]
    constants = [tensor("w", random_array(4, 4, 3, 3))]
    model = model_of([branch], inputs, [value("y", ["N", 4, 9, 8])], constants)
    lowered = lower(model, exact(lowering))
    assert [(layer.name, layer.decision) for layer in lowered.layers] == [("conv", "reuse"), ("conv#2", "reuse")]
    assert lowered.outputs == {}
    for condition in (True, False):
        assert_same_results(model, lowered.model, {"x": X, "cond": np.array(condition)})


@LOWERINGS
def test_loop(lowering: str) -> None:
    nodes = [
        node("Conv", ["s", "w", "b"], ["c"], name="in_loop", pads=[1] * 4),
        node("Clip", ["c", "zero"], ["s_out"]),
        node("Identity", ["go"], ["go_out"]),
    ]
    inputs = [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("s", None)]
    body = helper.make_graph(nodes, "body", inputs, [value("go_out", [], TensorProto.BOOL), value("s_out", None)])
    loop = node("Loop", ["times", "", "x"], ["y"], name="loop", body=body)
    constants = [
        tensor("w", 0.1 * random_array(4, 4, 3, 3)),
        tensor("b", random_array(4)),
        tensor("zero", np.float32(0)),
        tensor("times", np.array(3)),
    ]
    model = model_of([loop], [value("x", [2, 4, 9, 8])], [value("y", [2, 4, 9, 8])], constants)
    lowered = lower(model, exact(lowering))
    assert [(layer.name, layer.decision) for layer in lowered.layers] == [("in_loop", "reuse")]
    assert_same_results(model, lowered.model, {"x": X})


@pytest.mark.parametrize(("depth", "decision"), [(24, "reuse"), (32, "dense")])
def test_bodies_are_reached_as_deep_as_the_result_can_be_read(depth: int, decision: str) -> None:
    """Of 32 bodies inside one another protobuf reads no more than the layer: declaring its result is too deep."""
    nodes = [node("Conv", ["x", "w"], ["c"], name="conv", pads=[1] * 4), node("Sigmoid", ["c"], ["r0"])]
    for level in range(depth):
        outputs = [onnx.ValueInfoProto(name=f"r{level}")]
        then = helper.make_graph(nodes, "then", [], outputs)
        same = helper.make_graph([node("Identity", ["x"], [f"r{level}"])], "else", [], outputs)
        nodes = [node("If", ["cond"], [f"r{level + 1}"], then_branch=then, else_branch=same)]
    inputs = [value("x", [1, 4, 8, 8]), value("cond", [], TensorProto.BOOL)]
    model = model_of(nodes, inputs, [value(f"r{depth}", None)], [tensor("w", random_array(4, 4, 3, 3))])
    lowered = lower(model, EXACT)
    (layer,) = lowered.layers
    assert layer.decision == decision and ("levels deep" in layer.reason) == (decision == "dense")
    feed = {"x": random_array(1, 4, 8, 8), "cond": np.array(True)}
    assert_close(run(lowered.model, feed)[0], run(model, feed)[0])


@LOWERINGS
def test_functions(lowering: str) -> None:
    model = function_model()
    lowered = lower(model, exact(lowering))
    assert [layer.decision for layer in lowered.layers] == ["reuse", "reuse"]
    assert [f.name for f in lowered.model.functions if f.domain != "ai.reuse"] == ["plain"]
    assert set(lowered.outputs.values()) == {"p"}  # the second layer's result has no name in the original
    assert_same_results(model, lowered.model, {"x": random_array(1, 4, 8, 8)})


@LOWERINGS
@pytest.mark.parametrize("weights", [(6, 4, 3, 3), (6, 4, 3)])
def test_old_models(weights: tuple[int, ...], lowering: str) -> None:
    shape = (2, 4, 9, 8)[: len(weights)]
    model = conv_model(weights=weights, shape=shape, ir_version=3, opset=9)
    model.graph.input.extend([value("w", weights), value("b", [6])])
    lowered = lower(model, exact(lowering))
    assert lowered.modified
    assert_same_results(model, lowered.model, {"x": random_array(*shape)})


def normalized_in_a_body(ir_version: int, opset: int = 9) -> onnx.ModelProto:
    """An If whose bodies normalize a convolution with constants of the main graph: nodes, or inputs as of old."""

    def body(name: str) -> onnx.GraphProto:
        conv = node("Conv", ["x", "w"], [f"{name}_c"], name=f"{name}_conv", pads=[1] * 4)
        normalize = node("BatchNormalization", [f"{name}_c", "g", "b", "m", "v"], [f"{name}_y"])
        return helper.make_graph([conv, normalize], name, [], [value(f"{name}_y", None)])

    branch = node("If", ["cond"], ["y"], name="if", then_branch=body("then"), else_branch=body("else"))
    arrays = {"w": random_array(6, 4, 3, 3), **{name: np.abs(random_array(6)) + 1 for name in "gbmv"}}
    nodes = [node("Constant", [], [name], value=tensor(name, array)) for name, array in arrays.items()]
    inputs = [value("x", [2, 4, 9, 8]), value("cond", [], TensorProto.BOOL)]
    return model_of([*nodes, branch], inputs, [value("y", [2, 6, 9, 8])], opset=opset, ir_version=ir_version)


@LOWERINGS
@pytest.mark.parametrize("ir_version", [3, 8])
def test_normalization_in_a_body_with_constants_of_the_main_graph(ir_version: int, lowering: str) -> None:
    model = normalized_in_a_body(ir_version)
    lowered = lower(model, exact(lowering))
    assert [layer.decision for layer in lowered.layers] == ["reuse", "reuse"]
    assert operators(lowered.model.graph) == ["If"]
    for condition in (True, False):
        assert_same_results(model, lowered.model, {"x": X, "cond": np.array(condition)})


@pytest.mark.parametrize("weights", [(6, 4, 3, 3), (6, 4, 3)])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_external_data(tmp_path: Path, weights: tuple[int, ...], elsewhere: bool) -> None:
    shape = (2, 4, 9, 8)[: len(weights)]
    original = conv_model(weights=weights, shape=shape)
    source = save_with_data(original, tmp_path / "in" / "m.onnx", "weights.bin")
    lowered = lower(load_model(source), CompileOptions(family="exact", force=True))
    assert any(is_external(t) for t in lowered.model.graph.initializer)
    target = tmp_path / ("out" if elsewhere else "in") / "r.onnx"
    target.parent.mkdir(exist_ok=True)
    save_model(lowered.model, target)
    feeds = {"x": random_array(*shape)}
    assert_close(run(str(target), feeds)[0], run(original, feeds)[0])


def test_external_weights_that_operators_change_are_read(tmp_path: Path) -> None:
    model = conv_model()
    model.graph.node[0].input[1] = "wt"
    model.graph.node.insert(0, node("Transpose", ["hwio"], ["wt"], perm=[3, 2, 0, 1]))
    model.graph.initializer.append(tensor("hwio", random_array(3, 3, 4, 6)))
    source = save_with_data(model, tmp_path / "m.onnx", "weights.bin")
    lowered = lower(load_model(source), EXACT)
    assert operators(lowered.model.graph) == ["ReuseConv"]
    save_model(lowered.model, tmp_path / "r.onnx")
    feeds = {"x": random_array(1, 4, 8, 8)}
    assert_close(run(str(tmp_path / "r.onnx"), feeds)[0], run(model, feeds)[0])


def test_a_bias_that_is_computed_from_the_type_of_the_input_is_constant() -> None:
    model = conv_model(bias=False)
    model.graph.node[0].input.append("bias")
    model.graph.node.insert(0, node("Expand", ["like", "channels"], ["bias"]))
    model.graph.node.insert(0, node("CastLike", ["one", "x"], ["like"]))
    model.graph.initializer.extend([tensor("one", np.array(1.0)), tensor("channels", np.array([6]))])
    lowered = lower(model, EXACT)
    assert operators(lowered.model.graph) == ["ReuseConv"]
    assert_same_results(model, lowered.model, {"x": random_array(1, 4, 8, 8)})


@LOWERINGS
def test_lossy_layers_are_those_of_the_reference(lowering: Lowering) -> None:
    model = conv_model(shape=["N", 4, 9, 8], activation=node("Relu", ["c"], ["y"]), pads=[1] * 4)
    options = CompileOptions(family="sign", sub_vector_length=2, num_hashes=3, force=True, lowering=lowering)
    lowered = lower(model, options)
    (expected,) = ReferenceEvaluator(lowered.model, new_ops=REFERENCE_OPS).run(None, {"x": X})
    assert isinstance(expected, np.ndarray)
    assert_close(run(lowered.model, {"x": X})[0], expected)
    assert np.abs(expected - run(model, {"x": X})[0]).max() > 0.1  # otherwise nothing was shared


def test_fused_and_staged_share_their_parameters() -> None:
    options = CompileOptions(family="sign", num_hashes=3, force=True, fallback=False)
    models = [lower(conv_model(), options.model_copy(update={"lowering": kind})).model for kind in ("fused", "staged")]
    assert list(models[0].graph.initializer) == list(models[1].graph.initializer)


def test_the_same_call_gives_the_same_bytes() -> None:
    options = CompileOptions(family="sign", num_hashes=3, force=True, seed=5)
    first, second = (lower(conv_model(), options).model.SerializeToString() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("options", [CompileOptions(exclude="."), CompileOptions(layers="nothing")])
def test_nothing_rewritten_is_the_model_itself(options: CompileOptions) -> None:
    for model in (conv_model(), function_model()):
        before = model.SerializeToString()
        lowered = lower(model, options)
        assert lowered.model is model and not lowered.modified and lowered.outputs == {}
        assert model.SerializeToString() == before
        assert all(layer.decision == "dense" for layer in lowered.layers)


def test_a_model_without_convolutions() -> None:
    model = model_of([node("Relu", ["x"], ["y"])], [value("x", [1])], [value("y", [1])])
    lowered = lower(model, CompileOptions())
    assert lowered.model is model and lowered.layers == [] and not lowered.modified


def test_the_input_model_is_not_changed() -> None:
    model = function_model()
    before = model.SerializeToString()
    assert lower(model, EXACT).modified
    assert model.SerializeToString() == before


def test_a_compiled_model_is_not_compiled_again() -> None:
    once = lower(conv_model(), EXACT).model
    twice = lower(once, EXACT)
    assert twice.model is once
    (layer,) = twice.layers
    assert layer.decision == "dense" and "already" in layer.reason


def test_layers_are_found_without_rewriting_them() -> None:
    """Functions are inlined; the layers are those that lowering rewrites, and the model that was given stays."""
    for model in (conv_model(), function_model()):
        before = model.SerializeToString()
        prepared = find_layers(model)
        layers = prepared.layers
        assert model.SerializeToString() == before
        lowered = lower(model, EXACT)
        assert [layer.name for layer in layers] == [layer.name for layer in lowered.layers]
        found = [layer for layer in layers if isinstance(layer, ConvLayer)]
        assert len(found) == len(layers) and not any(layer.refusal for layer in found)
        assert {layer.name: layer.output for layer in found if layer.in_main}.items() >= lowered.outputs.items()
        assert "ReuseConv" not in operators(prepared.model.graph)
        assert all(function.name == "plain" for function in prepared.model.functions)
        assert [layer.name for layer in lower(prepared.model, EXACT).layers] == [layer.name for layer in layers]


def test_layers_that_stay_dense_are_found_with_their_reason() -> None:
    (layer,) = find_layers(conv_model(weights=(4, 1, 3, 3), group=4)).layers
    assert layer.refusal is not None and "depthwise" in layer.refusal
