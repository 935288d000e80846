"""A normalized convolution is rewritten with its normalization, wherever that is the same in every run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from reuse_compiler.calibration.layers import examine
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.pipeline import find_layers, lower
from tests.comparison import assert_close
from tests.passes.models import EXACT, model_of, operators, random_array, run, tensor, value

SHAPE = (2, 4, 8, 8)


def normalized(
    *,
    weights: Sequence[int] = (6, 4, 3, 3),
    shape: Sequence[int] = SHAPE,
    bias: bool = True,
    activation: str | None = "Relu",
    outputs: Sequence[str] = ("n",),
    variance: str = "v",
    channels: int = 6,
    opset: int = 17,
    **attributes: Any,
) -> onnx.ModelProto:
    """Input x -> Conv -> c -> BatchNormalization -> n (-> activation) -> y, with far from trivial statistics."""
    nodes = [
        helper.make_node("Conv", ["x", "w", *(["b"] if bias else [])], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "s", "h", "m", variance], list(outputs), name="bn", **attributes),
        helper.make_node(activation or "Identity", ["n"], ["y"], name="act"),
    ]
    constants = [tensor("w", random_array(*weights)), *([tensor("b", random_array(weights[0]))] if bias else [])]
    constants += [tensor(name, random_array(channels, seed=index)) for index, name in enumerate("shm")]
    constants += [tensor("v", np.abs(random_array(channels, seed=5)) + np.float32(0.1))]
    inputs = [value("x", shape), *([value(variance, [channels])] if variance != "v" else [])]
    return model_of(nodes, inputs, [value("y", [None] * len(shape))], constants, opset=opset)


@pytest.mark.parametrize(
    ("weights", "shape"), [((6, 4, 3, 3), SHAPE), ((6, 2, 3), (2, 4, 20))], ids=["2d", "1d with groups"]
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
@pytest.mark.parametrize("opset", [9, 17])
def test_the_rewritten_layer_normalizes(
    weights: Sequence[int], shape: Sequence[int], bias: bool, activation: str, opset: int
) -> None:
    model = normalized(weights=weights, shape=shape, bias=bias, activation=activation, epsilon=0.01, opset=opset)
    model.graph.node[0].attribute.append(helper.make_attribute("group", shape[1] // weights[1]))
    lowered = lower(model, EXACT)
    after = [] if activation == "Relu" else ["Sigmoid"]
    assert [op for op in operators(lowered.model.graph) if "squeeze" not in op.lower()] == ["ReuseConv", *after]
    assert lowered.outputs == {"conv": "n" if after else "y"}
    feeds = {"x": random_array(*shape)}
    assert_close(run(lowered.model, feeds)[0], run(model, feeds)[0])


def test_a_layer_that_stays_dense_is_as_it_was() -> None:
    model = normalized()
    lowered = lower(model, CompileOptions(exclude="conv", family="exact", force=True))
    assert not lowered.modified and lowered.model is model


def test_weights_are_folded_before_anything_is_fitted_to_them() -> None:
    model = normalized(activation=None)
    (layer,) = find_layers(model).layers
    assert isinstance(layer, ConvLayer)
    dense = model_of(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"])],
        [value("x", SHAPE)],
        [value("y", [None] * 4)],
        [tensor("w", layer.weights), tensor("b", layer.biases)],
    )
    feeds = {"x": random_array(*SHAPE)}
    assert_close(run(dense, feeds)[0], run(model, feeds)[0])


def test_calibration_measures_the_layer_with_its_normalization() -> None:
    work = examine(normalized(), CalibrationOptions())
    (layer,) = work.layers
    assert (layer.input, layer.linear_output, layer.output) == ("x", "n", "y")
    part = work.alone(layer).model
    assert operators(part.graph) == ["Conv", "BatchNormalization", "Relu"] and part.graph.node[0].name == "conv"


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(normalized(variance="fed"), id="statistics are fed"),
        pytest.param(normalized(training_mode=1, outputs=["n", "mean", "var"]), id="it trains"),
    ],
)
def test_what_differs_from_run_to_run_stays(model: onnx.ModelProto) -> None:
    lowered = lower(model, EXACT)
    assert operators(lowered.model.graph) == ["ReuseConv", "BatchNormalization", "Relu"]


def test_a_result_that_others_read_stays() -> None:
    model = normalized()
    model.graph.output.append(value("c", [None] * 4))
    lowered = lower(model, EXACT)
    assert operators(lowered.model.graph) == ["ReuseConv", "BatchNormalization", "Relu"]
    feeds = {"x": random_array(*SHAPE)}
    for actual, expected in zip(run(lowered.model, feeds), run(model, feeds), strict=True):
        assert_close(actual, expected)


def test_a_normalization_of_other_channels_is_malformed() -> None:
    (layer,) = find_layers(normalized(channels=5)).layers
    assert layer.refusal == "it is malformed: 5 channels of its 6 are normalized"


def test_a_whole_model_from_a_file(tmp_path: Path) -> None:
    from reuse_compiler.compiler import compile_file

    path = tmp_path / "net.onnx"
    onnx.save(normalized(), path)
    report = compile_file(path, None, EXACT)
    assert [layer.decision for layer in report.layers] == ["reuse"]
    assert report.layers[0].output_error is not None and report.layers[0].output_error < 1e-5
