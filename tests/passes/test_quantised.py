"""Convolutions of bytes, as onnxruntime's quantiser and others write them, are rewritten and keep every bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import reuse_compiler
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.layer import QuantisedLayer
from reuse_compiler.pipeline import Lowered, find_layers, lower
from tests.passes.models import EXACT, Array, model_of, operators, random_array, tensor, value

X_SCALE, W_SCALE, Y_SCALE = np.float32(0.02), np.float32(0.01), np.float32(0.05)
ZERO, THREE = np.uint8(0), np.uint8(3)
STREAM = EXACT.model_copy(update={"stream": True})
THOUSANDS = np.arange(-3000, 3000, 1000, dtype=np.int32)
NONE, FOUR_ZEROS = np.int8(0), np.zeros(4, np.int8)


def integers(*shape: int, element: type[np.generic] = np.int8, seed: int = 0) -> Array:
    limits = np.iinfo(element)  # type: ignore[type-var]
    return np.random.default_rng([seed, *shape]).integers(limits.min, limits.max + 1, shape, dtype=element)


def dequantise(name: str, *parameters: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("DequantizeLinear", [f"{name}_q", *parameters], [name], **attributes)


def qdq_model(
    *,
    activation: Sequence[onnx.NodeProto] = (),
    bias: Array | None = None,
    bias_scale: Any = X_SCALE * W_SCALE,
    weights: tuple[int, ...] = (6, 4, 3, 3),
    x_zero_point: Any = THREE,
    w_scale: Any = W_SCALE,
    w_zero_point: Any = NONE,
    y_zero_point: Any = ZERO,
    axis: int = 0,
    **attributes: Any,
) -> onnx.ModelProto:
    """Input x_q of bytes -> a Conv `conv` between DequantizeLinear and QuantizeLinear -> output y_q."""
    rank = len(weights)
    constants: dict[str, Any] = {"w_q": integers(*weights, element=np.asarray(w_zero_point).dtype.type)}
    constants |= {"x_s": X_SCALE, "w_s": w_scale, "y_s": Y_SCALE}
    constants |= {"x_z": x_zero_point, "w_z": w_zero_point, "y_z": y_zero_point}
    nodes = [dequantise("x", "x_s", "x_z"), dequantise("w", "w_s", "w_z", axis=axis)]
    inputs = ["x", "w"]
    if bias is not None:
        inputs.append("b")
        constants["b" if bias.dtype == np.float32 else "b_q"] = bias
        if bias.dtype != np.float32:
            constants["b_s"] = bias_scale
            nodes.append(dequantise("b", "b_s", axis=0))
    nodes.append(helper.make_node("Conv", inputs, ["c"], name="conv", **attributes))
    nodes.extend(activation)
    last = activation[-1].output[0] if activation else "c"
    nodes.append(helper.make_node("QuantizeLinear", [last, "y_s", "y_z"], ["y_q"]))
    element = helper.np_dtype_to_tensor_dtype(np.asarray(x_zero_point).dtype)
    return model_of(
        nodes,
        [value("x_q", [2, 4, *[9] * (rank - 2)], element)],
        [value("y_q", [None] * rank, helper.np_dtype_to_tensor_dtype(np.asarray(y_zero_point).dtype))],
        [tensor(name, array) for name, array in constants.items()],
    )


def relu() -> list[onnx.NodeProto]:
    return [helper.make_node("Relu", ["c"], ["r"])]


def clip(low: float, high: float) -> list[onnx.NodeProto]:
    constants = [
        helper.make_node("Constant", [], [name], value_float=number) for name, number in (("low", low), ("high", high))
    ]
    return [*constants, helper.make_node("Clip", ["c", "low", "high"], ["r"])]


def run(model: onnx.ModelProto, x: Array) -> Array:
    """Runs a model in onnxruntime without the operator library; as QLinearConv even where a processor is no faster."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {"x_q": x})[0]
    return result


def rewritten(model: onnx.ModelProto) -> Lowered:
    """Returns the model with its only convolution rewritten; the result must be sound."""
    lowered = lower(model, EXACT)
    assert [layer.decision for layer in lowered.layers] == ["reuse"], lowered.layers
    onnx.checker.check_model(lowered.model, full_check=True)
    return lowered


PER_CHANNEL = np.linspace(0.005, 0.02, 6, dtype=np.float32)
MODELS = {
    "plain": qdq_model(),
    "int8": qdq_model(x_zero_point=np.int8(-5), y_zero_point=np.int8(7)),
    "weights of uint8": qdq_model(w_zero_point=np.uint8(120)),
    "scale per channel": qdq_model(w_scale=PER_CHANNEL, w_zero_point=np.zeros(6, np.int8)),
    "bias": qdq_model(bias=THOUSANDS),
    "bias per channel": qdq_model(
        bias=THOUSANDS,
        bias_scale=X_SCALE * PER_CHANNEL,
        w_scale=PER_CHANNEL,
        w_zero_point=np.zeros(6, np.int8),
    ),
    "bias of floats": qdq_model(bias=random_array(6)),
    "relu": qdq_model(activation=relu()),
    "clip": qdq_model(activation=clip(0.0, 12.8)),
    "geometry": qdq_model(weights=(6, 2, 3, 2), group=2, strides=[2, 1], dilations=[1, 2], pads=[1, 2, 0, 1]),
    "auto_pad": qdq_model(auto_pad="SAME_UPPER", strides=[2, 2]),
    "one dimension": qdq_model(weights=(6, 4, 3), pads=[1, 1]),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_result_is_the_originals_without_the_library(kind: str) -> None:
    model = MODELS[kind]
    before = model.SerializeToString()
    lowered = rewritten(model)
    assert model.SerializeToString() == before
    others = {"Unsqueeze", "Squeeze"} if kind == "one dimension" else set()
    assert set(operators(lowered.model.graph)) - {"Constant"} == {"QLinearReuseConv", "Transpose", *others}
    x = integers(*(size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim), element=np.uint8)
    x = x.view(helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type))
    np.testing.assert_array_equal(run(lowered.model, x), run(model, x))


def test_constants_that_only_the_float_form_read_are_gone() -> None:
    names = {each.name for each in rewritten(qdq_model(bias=np.zeros(6, np.int32))).model.graph.initializer}
    assert names == {"w_q", "b_q", *(f"{tensor}_{part}" for tensor in "xwy" for part in "sz")}


def test_the_report_says_that_its_tables_are_of_int32() -> None:
    (line,) = [each.report() for each in lower(qdq_model(), EXACT).decisions]
    assert (line.decision, line.family, line.table) == ("reuse", "exact", "int32")


@pytest.mark.parametrize("kind", ["plain", "int8", "geometry", "one dimension"])
def test_a_stream_goes_on_from_its_last_run(kind: str) -> None:
    model = MODELS[kind]
    (node,) = [each for each in lower(model, STREAM).model.graph.node if each.op_type == "QLinearReuseConv"]
    assert {each.name: each.i for each in node.attribute if each.name in ("incremental", "memory")} == {
        "incremental": 1,
        "memory": 2**28,
    }
    lowered, random = lower(model, STREAM), np.random.default_rng(0)
    assert [line.incremental for line in lowered.layers] == [True]
    session = reuse_compiler.session(lowered.model.SerializeToString())
    x = integers(*(size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim), element=np.uint8)
    for share in (0.0, 0.0, 0.02, 0.1, 1.0, 0.0):
        x = np.where(random.random(x.shape) < share, random.integers(0, 256, x.shape), x).astype(np.uint8)
        frame = x.view(helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type))
        np.testing.assert_array_equal(session.run(None, {"x_q": frame})[0], run(model, frame))
    (counted,) = reuse_compiler.statistics(session)
    assert counted.anew < counted.runs and 0 < counted.recomputed < counted.rows
    assert counted.state_bytes > 0
    reuse_compiler.reset_clusters(session)
    assert reuse_compiler.statistics(session)[0].state_bytes == 0


def test_a_stream_is_expected_to_change_in_parts() -> None:
    (decision,) = lower(qdq_model(weights=(600, 4, 3, 3)), STREAM.model_copy(update={"force": False})).decisions
    assert decision.plan is not None and decision.plan.incremental
    assert "r_c for what changes taken to be 0.3" in decision.reason


def test_what_others_read_stays() -> None:
    model = qdq_model()
    model.graph.node.append(helper.make_node("Neg", ["x"], ["negative"]))
    model.graph.output.append(value("negative", [2, 4, 9, 9]))
    operators_left = ["DequantizeLinear", "Neg", "QLinearReuseConv", "Transpose", "Transpose"]
    assert sorted(operators(rewritten(model).model.graph)) == operators_left


def test_qlinearconv_is_rewritten() -> None:
    names = ["x_q", "x_s", "x_z", "w_q", "w_s", "w_z", "y_s", "y_z"]
    model = qdq_model()
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("QLinearConv", names, ["y_q"], name="conv", pads=[1] * 4))
    lowered, x = rewritten(model), integers(2, 4, 9, 9, element=np.uint8)
    node = next(node for node in lowered.model.graph.node if node.op_type == "QLinearReuseConv")
    assert (node.name, list(node.input)[1:8]) == ("conv", names[1:])
    np.testing.assert_array_equal(run(lowered.model, x), run(model, x))


def test_what_the_bytes_stand_for_is_read() -> None:
    model = qdq_model(w_scale=PER_CHANNEL, w_zero_point=np.zeros(6, np.int8), bias=random_array(6))
    (layer,) = find_layers(model).layers
    assert isinstance(layer, QuantisedLayer) and layer.spec.element == "uint8"
    weights = next(each for each in model.graph.initializer if each.name == "w_q")
    expected = onnx.numpy_helper.to_array(weights) * PER_CHANNEL[:, None, None, None]
    np.testing.assert_allclose(layer.weights, expected, rtol=1e-6)
    np.testing.assert_allclose(layer.biases, random_array(6), atol=float((X_SCALE * PER_CHANNEL).max()))
    assert (layer.input, layer.output) == ("x_q", "y_q")


def changed(model: onnx.ModelProto, node: int, **attributes: Any) -> onnx.ModelProto:
    del model.graph.node[node].attribute[:]
    model.graph.node[node].attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    return model


def without_zero_point(node: int) -> onnx.ModelProto:
    model = qdq_model()
    del model.graph.node[node].input[2]
    return model


def with_float_weights() -> onnx.ModelProto:
    model = qdq_model()
    model.graph.node[2].input[1] = "floats"
    model.graph.initializer.append(tensor("floats", random_array(6, 4, 3, 3)))
    return model


def of_unknown_type(node: int) -> onnx.ModelProto:
    """Returns a model whose weights have a type that ONNX does not have, and no zero point."""
    model = without_zero_point(node)
    next(each for each in model.graph.initializer if each.name == "w_q").data_type = 65
    return model


def with_short_qlinearconv() -> onnx.ModelProto:
    model = qdq_model()
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("QLinearConv", ["x_q", "x_s", "x_z", "w_q", "w_s"], ["y_q"]))
    return model


REFUSALS = [
    ("computes its input, but not its weights", with_float_weights()),
    ("passes a Relu", qdq_model(activation=relu(), y_zero_point=np.uint8(1))),
    ("passes a Clip", qdq_model(activation=clip(0.0, 12.7))),
    ("its input has no zero point", without_zero_point(0)),
    ("its result has no zero point", without_zero_point(3)),
    ("in blocks: '' has a block_size", changed(qdq_model(), 1, axis=0, block_size=2)),
    ("its input has elements of uint16", qdq_model(x_zero_point=np.uint16(0))),
    ("its weights have elements of 65, which ONNX does not have", of_unknown_type(1)),
    ("its weights have elements of int16", qdq_model(w_zero_point=np.int16(0))),
    ("other than one scale, or one for each", qdq_model(w_scale=PER_CHANNEL[:4], w_zero_point=FOUR_ZEROS, axis=1)),
    ("not positive and finite", qdq_model(w_scale=np.float32(-1.0))),
    ("its bias has another scale", qdq_model(bias=np.zeros(6, np.int32), bias_scale=np.float32(0.1))),
    ("8 inputs and an optional bias", with_short_qlinearconv()),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "model"), REFUSALS, ids=[sentence for sentence, _ in REFUSALS])
def test_refusals(sentence: str, model: onnx.ModelProto) -> None:
    lowered = lower(model, EXACT)
    assert lowered.model is model
    assert sentence in lowered.layers[0].reason, lowered.layers[0].reason


@pytest.mark.parametrize(
    ("sentence", "options"),
    [
        ("codes of at most 16 bits, not 17", CompileOptions(family="sign", num_hashes=17, table="int8", force=True)),
        ("channel and table int8", CompileOptions(family="sign", num_hashes=5, force=True)),
        (
            "leave metric and capacity off",
            CompileOptions(family="sign", num_hashes=5, table="int8", distance="angular", force=True),
        ),
        ("scopes batch and image, not 'session'", CompileOptions(family="exact", scope="session", force=True)),
        ("int8 entries would have to be known before", CompileOptions(family="exact", scope="session", force=True)),
        ("integer tables of its own", CompileOptions(family="exact", table="int8", force=True)),
        ("needs --lowering fused", CompileOptions(family="exact", lowering="staged", force=True)),
    ],
)
def test_settings_that_bytes_do_not_have(sentence: str, options: CompileOptions) -> None:
    assert sentence in lower(qdq_model(), options).layers[0].reason


def test_zero_points_of_weights_may_be_left_off() -> None:
    lowered, x = rewritten(without_zero_point(1)), integers(2, 4, 9, 9, element=np.uint8)
    np.testing.assert_array_equal(run(lowered.model, x), run(qdq_model(), x))


def test_types_are_declared() -> None:
    declared = {
        each.name: each.type.tensor_type.elem_type for each in rewritten(MODELS["one dimension"]).model.graph.value_info
    }
    assert declared["conv/input"] == declared["conv/result"] == TensorProto.UINT8
