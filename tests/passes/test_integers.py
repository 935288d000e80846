"""Convolutions of bytes whose result is floats: ConvInteger with a scale, and Conv that no QuantizeLinear follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime import quantization

from reuse_compiler.passes.layer import IntegerLayer
from reuse_compiler.pipeline import Lowered, find_layers, lower
from tests.passes.models import EXACT, Array, conv_model, model_of, operators, random_array, tensor, value
from tests.passes.test_quantised import NONE, PER_CHANNEL, THOUSANDS, THREE, W_SCALE, integers, qdq_model
from tests.running import make_session

SIX = np.zeros(6, np.int8)


def rewritten(model: onnx.ModelProto) -> Lowered:
    """Returns the model with its only convolution rewritten; the result must be sound."""
    before = model.SerializeToString()
    lowered = lower(model, EXACT)
    assert model.SerializeToString() == before
    assert [layer.decision for layer in lowered.layers] == ["reuse"], lowered.layers
    onnx.checker.check_model(lowered.model, full_check=True)
    return lowered


def integer_model(
    *,
    x_zero_point: Any = THREE,
    w_zero_point: Any = NONE,
    scale: Any = W_SCALE,
    bias: Any = None,
    weights: Sequence[int] = (6, 4, 3, 3),
    fed: Sequence[str] = (),
    **attributes: Any,
) -> onnx.ModelProto:
    """Input x of bytes -> ConvInteger `conv` -> Cast -> Mul with a scale (-> Add of a bias) -> output y.

    `fed` are inputs of the model among x_z and s; the zero points may be None, which leaves them off.
    """
    given = {
        "w": integers(*weights, element=np.asarray(NONE if w_zero_point is None else w_zero_point).dtype.type),
        **{"x_z": x_zero_point, "w_z": w_zero_point, "s": scale, "b": bias},
    }
    given = {name: np.asarray(array) for name, array in given.items() if array is not None}
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in given.items()}
    nodes = [
        helper.make_node(
            "ConvInteger",
            ["x", "w", *(name for name in ("x_z", "w_z") if name in given)],
            ["c"],
            name="conv",
            **attributes,
        ),
        helper.make_node("Cast", ["c"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "f"], ["y" if bias is None else "p"]),
        *([] if bias is None else [helper.make_node("Add", ["p", "b"], ["y"])]),
    ]
    rank, channels = len(weights), weights[1] * attributes.get("group", 1)
    x = value("x", ["N", channels, *[9] * (rank - 2)], kinds.get("x_z", TensorProto.UINT8))
    return model_of(
        nodes,
        [x, *(value(name, given[name].shape, kinds[name]) for name in fed)],
        [value("y", [None] * rank)],
        [tensor(name, array) for name, array in given.items() if name not in fed],
    )


BIAS = random_array(6).reshape(1, 6, 1, 1)
MODELS = {
    "plain": integer_model(),
    "int8": integer_model(x_zero_point=np.int8(-5)),
    "weights of uint8": integer_model(w_zero_point=np.uint8(120)),
    "no zero points": integer_model(x_zero_point=None, w_zero_point=None),
    "bias": integer_model(bias=BIAS),
    "bias of one value": integer_model(bias=np.float32(0.3)),
    "scale per channel": integer_model(scale=PER_CHANNEL.reshape(6, 1, 1), bias=BIAS[0]),
    "scale and zero point of the run": integer_model(fed=["s", "x_z"], bias=BIAS),
    "scales of the run": integer_model(scale=PER_CHANNEL.reshape(1, 6, 1, 1), fed=["s"]),
    "negative scale": integer_model(scale=np.float32(-0.01), x_zero_point=np.uint8(0)),
    "geometry": integer_model(weights=(6, 2, 3, 2), group=2, strides=[2, 1], dilations=[1, 2], pads=[1, 2, 0, 1]),
    "auto_pad": integer_model(auto_pad="SAME_UPPER", strides=[2, 2]),
    "one dimension": integer_model(weights=(6, 4, 3), pads=[1, 1], scale=PER_CHANNEL.reshape(6, 1), bias=BIAS[..., 0]),
}  # fmt: skip


def feeds(model: onnx.ModelProto) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    found = {}
    for given in model.graph.input:
        kind = helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
        shape = [dim.dim_value or 2 for dim in given.type.tensor_type.shape.dim]
        array = rng.integers(0, 256, shape).astype(kind) if kind != np.float32 else rng.random(shape, np.float32)
        found[given.name] = np.asarray(array)
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_the_result_is_the_originals_with_and_without_the_library(kind: str) -> None:
    model = MODELS[kind]
    lowered, given = rewritten(model), feeds(model)
    others = {"Unsqueeze", "Squeeze"} if kind == "one dimension" else set()
    assert set(operators(lowered.model.graph)) == {"ReuseConvInteger", "Transpose", *others}
    expected = make_session(model).run(None, given)[0]
    ours = make_session(lowered.model).run(None, given)[0]
    alone = make_session(lowered.model, library=False).run(None, given)[0]
    np.testing.assert_array_equal(ours.view(np.int32), expected.view(np.int32))
    np.testing.assert_array_equal(alone.view(np.int32), expected.view(np.int32))


def test_quantize_dynamic_is_rewritten(tmp_path: Path) -> None:
    """Files as onnxruntime's quantiser writes them: the bytes' scale and zero point are known in a run only."""
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(conv_model(shape=(1, 4, 8, 8), activation=helper.make_node("Relu", ["c"], ["y"])), source)
    quantization.quantize_dynamic(source, target, op_types_to_quantize=["Conv"])
    model = onnx.load(target)
    lowered = rewritten(model)
    x = {model.graph.input[0].name: 3 * random_array(1, 4, 8, 8)}
    expected = make_session(model).run(None, x)[0]
    np.testing.assert_array_equal(make_session(lowered.model).run(None, x)[0], expected)
    np.testing.assert_array_equal(make_session(lowered.model, library=False).run(None, x)[0], expected)
    layer = find_layers(model).convolutions.popitem()[1]
    assert isinstance(layer, IntegerLayer) and layer.fed.keys() == {"x_zero_point", "scale"}


def float_result(**settings: Any) -> onnx.ModelProto:
    """Returns the QDQ model without its QuantizeLinear: the Conv's result is the model's."""
    model = qdq_model(**settings)
    del model.graph.node[-1]
    constants = [each for each in model.graph.initializer if not each.name.startswith("y_")]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    rank = len(model.graph.output[0].type.tensor_type.shape.dim)
    model.graph.output[0].CopyFrom(value(model.graph.node[-1].output[0], [None] * rank))
    return model


FLOATS = {
    "plain": float_result(),
    "int8": float_result(x_zero_point=np.int8(-5)),
    "per channel": float_result(w_scale=PER_CHANNEL, w_zero_point=SIX, bias=random_array(6)),
    "bias": float_result(bias=THOUSANDS),
    "relu": float_result(activation=[helper.make_node("Relu", ["c"], ["r"])]),
    "geometry": float_result(weights=(6, 2, 3, 2), group=2, strides=[2, 1], dilations=[1, 2], pads=[1, 2, 0, 1]),
}


@pytest.mark.parametrize("kind", FLOATS)
def test_a_result_that_is_not_quantised_stays_float(kind: str) -> None:
    """Sums of integers are exact, those of onnxruntime's floats rounded."""
    model = FLOATS[kind]
    lowered = rewritten(model)
    x = {"x_q": feeds(model)["x_q"]}
    expected = make_session(model).run(None, x)[0]
    for library in (True, False):
        actual = make_session(lowered.model, library=library).run(None, x)[0]
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * float(np.abs(expected).max()))


def test_what_a_quantisation_cannot_be_is_left_behind_a_float_result() -> None:
    leaky = [helper.make_node("LeakyRelu", ["c"], ["r"])]
    found = operators(rewritten(qdq_model(activation=leaky)).model.graph)
    assert found == ["Transpose", "ReuseConvInteger", "Transpose", "LeakyRelu", "QuantizeLinear"]


def cast_to_double() -> onnx.ModelProto:
    model = integer_model()
    model.graph.node[1].attribute[0].i = TensorProto.DOUBLE
    return model


def without_scale() -> onnx.ModelProto:
    model = integer_model()
    model.graph.node[2].op_type = "Sub"
    return model


def with_weights_of_the_run() -> onnx.ModelProto:
    model = integer_model()
    (weights,) = (each for each in model.graph.initializer if each.name == "w")
    model.graph.initializer.remove(weights)
    model.graph.input.append(value("w", [6, 4, 3, 3], TensorProto.INT8))
    return model


def with_pixel_scale() -> onnx.ModelProto:
    return integer_model(scale=np.ones((7, 7), np.float32))


REFUSALS = [
    ("does not become float (32 bits) by a Cast", cast_to_double()),
    ("no Mul with a scale takes its result", without_scale()),
    ("its weights must be constant", with_weights_of_the_run()),
    ("is multiplied with 's', which must be one value, or one for each", with_pixel_scale()),
    ("several zero points", float_result(w_scale=PER_CHANNEL, w_zero_point=np.arange(6, dtype=np.uint8))),
]


@pytest.mark.parametrize(("sentence", "model"), REFUSALS, ids=[sentence for sentence, _ in REFUSALS])
def test_refusals(sentence: str, model: onnx.ModelProto) -> None:
    lowered = lower(model, EXACT)
    assert lowered.model is model
    assert sentence in lowered.layers[0].reason, lowered.layers[0].reason


def test_an_addend_that_is_no_bias_stays() -> None:
    model = integer_model(bias=random_array(7, 7))
    found = operators(rewritten(model).model.graph)
    assert found == ["Transpose", "ReuseConvInteger", "Transpose", "Add"]
    given = feeds(model)
    expected = make_session(model).run(None, given)[0]
    np.testing.assert_array_equal(make_session(rewritten(model).model).run(None, given)[0], expected)
