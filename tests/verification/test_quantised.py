"""onnxruntime's static quantisation of a model: its ranges and the choice of its form."""

import numpy as np
import onnx
import onnxruntime
import pytest

from models.graph_writer import GraphWriter
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.quantised import FORMS, fastest_quantised, quantise


@pytest.fixture
def model() -> onnx.ModelProto:
    rng, graph = np.random.default_rng(0), GraphWriter("two", ("N", 3, 12, 12))
    x = "x"
    for name, channels, inputs in (("conv1", 8, 3), ("conv2", 4, 8)):
        weight = rng.standard_normal((channels, inputs, 3, 3)).astype(np.float32)
        x = graph.relu(graph.conv(x, weight, np.zeros(channels, np.float32), name, pad=1))
    return graph.build("y", ("N", 4, 12, 12))


def feed(scale: float) -> Feed:
    return {"x": scale * np.random.default_rng(1).standard_normal((2, 3, 12, 12)).astype(np.float32)}


def error(model: onnx.ModelProto, quantised: onnx.ModelProto, inputs: Feed) -> float:
    difference = Difference()
    difference.add(
        *(onnxruntime.InferenceSession(m.SerializeToString()).run(None, inputs)[0] for m in (model, quantised))
    )
    return difference.rel_error


def test_ranges_come_from_all_feeds(model: onnx.ModelProto) -> None:
    narrow = quantise(model, [feed(1.0)], *FORMS[0])
    wide = quantise(model, [feed(1.0), feed(8.0)], *FORMS[0])
    assert error(model, narrow, feed(1.0)) < 0.05
    assert error(model, wide, feed(8.0)) < 0.05
    assert error(model, narrow, feed(8.0)) > 0.2


@pytest.mark.parametrize("opset", [9, 12])
def test_models_of_old_opsets_are_quantised_in_every_form(model: onnx.ModelProto, opset: int) -> None:
    """Per channel, as others are: before opset 13 DequantizeLinear cannot do that."""
    old, inputs = onnx.ModelProto(), feed(1.0)
    old.CopyFrom(model)
    old.opset_import[0].version = opset  # its operators were the same then
    for form in FORMS:
        quantised = quantise(old, [inputs], *form)
        scales = [tensor for tensor in quantised.graph.initializer if tensor.name == "conv1.weight_scale"]
        assert [list(scale.dims) for scale in scales] == [[8]]
        assert 0.0 < error(old, quantised, inputs) < 0.05


def test_the_fastest_of_all_forms_is_taken(model: onnx.ModelProto) -> None:
    inputs = feed(1.0)
    found = fastest_quantised(model, [inputs], lambda opened: lambda: opened.run(None, inputs), threads=1)
    assert len(found.forms_ms) == len(FORMS)
    assert found.forms_ms[found.form] == min(found.forms_ms.values())
    assert 0.0 < error(model, found.model, inputs) < 0.05
