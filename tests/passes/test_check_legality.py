"""Every convolution that reuse cannot compute is declined with its sentence; geometry of the others is read right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reuse_compiler.errors import ConfigError
from reuse_compiler.passes.choose_parameters import Decision
from reuse_compiler.passes.conv_node import attributes_of
from reuse_compiler.passes.layer import ConvLayer, Layer
from reuse_compiler.pipeline import find_layers
from tests.passes.models import conv_model, random_array, tensor, value


def check(model: onnx.ModelProto) -> Layer:
    """Returns what becomes of the first layer."""
    before = model.SerializeToString()
    prepared = find_layers(model)
    assert prepared.model is model and model.SerializeToString() == before
    return prepared.layers[0]


def read(model: onnx.ModelProto) -> ConvLayer:
    """Returns the first layer, which must be legal."""
    layer = check(model)
    assert isinstance(layer, ConvLayer) and layer.refusal is None
    return layer


def with_conv(change: Callable[[onnx.ModelProto, onnx.NodeProto], object], **options: Any) -> onnx.ModelProto:
    model = conv_model(**options)
    change(model, model.graph.node[0])
    return model


def replace_initializer(model: onnx.ModelProto, name: str, array: Any) -> None:
    next(t for t in model.graph.initializer if t.name == name).CopyFrom(tensor(name, array))


def quantised_input(model: onnx.ModelProto, conv: onnx.NodeProto) -> None:
    conv.input[0] = "d"
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["q", "scale"], ["d"]))
    model.graph.input.append(value("q", [1, 4, 8, 8], TensorProto.UINT8))
    model.graph.initializer.append(tensor("scale", np.float32(0.1)))


def quantised_weights(model: onnx.ModelProto, conv: onnx.NodeProto) -> None:
    conv.input[1] = "d"
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["q", "scale"], ["d"]))
    model.graph.initializer.extend([tensor("scale", np.float32(0.1)), tensor("q", np.ones((6, 4, 3, 3), np.int8))])


def fed(name: str, shape: list[int]) -> Callable[[onnx.ModelProto, onnx.NodeProto], object]:
    def change(model: onnx.ModelProto, conv: onnx.NodeProto) -> None:
        model.graph.input.append(value("fed", shape))
        conv.input[["x", "w", "b"].index(name)] = "fed"

    return change


REFUSALS: list[tuple[str, onnx.ModelProto]] = [
    ("its weights must be constant, but 'fed' is fed at run time", with_conv(fed("w", [6, 4, 3, 3]))),
    ("its bias must be constant, but 'fed' is fed at run time", with_conv(fed("b", [6]))),
    (
        "its weights must be constant, but 'w' is a graph input with a default value, which callers may override",
        with_conv(lambda model, conv: model.graph.input.append(value("w", [6, 4, 3, 3]))),
    ),
    ("its weights must be constant, but 'd' is quantised", with_conv(quantised_weights)),
    ("it is quantised: a DequantizeLinear computes its input", with_conv(quantised_input)),
    ("element type is double", with_conv(lambda m, c: replace_initializer(m, "w", np.ones((6, 4, 3, 3))))),
    ("element type is 65, which", with_conv(lambda m, c: setattr(m.graph.initializer[0], "data_type", 65))),
    ("element type is float16", with_conv(lambda m, c: replace_initializer(m, "w", np.ones((6, 4, 3, 3), np.float16)))),
    ("it is a 3-D convolution", conv_model(weights=(6, 4, 3, 3, 3), shape=(1, 4, 8, 8, 8))),
    ("its weights have 2 dimensions", conv_model(weights=(6, 4), shape=(1, 4))),
    ("its weights have no elements", conv_model(weights=(0, 4, 3, 3))),
    ("it is depthwise", conv_model(weights=(4, 1, 3, 3), group=4)),
    ("it is depthwise", conv_model(weights=(8, 1, 3, 3), group=4)),
    ("it is depthwise", conv_model(weights=(4, 1, 3), shape=(1, 4, 8), group=4)),
    ("its pads [-1, 0, 0, 0] are negative", conv_model(pads=[-1, 0, 0, 0])),
    ("exceed 1073741824, the largest", conv_model(dilations=[2**32 + 1, 1])),
    ("kernel_shape [5, 5] is not that of its weights [6, 4, 3, 3]", conv_model(kernel_shape=[5, 5])),
    ("strides, dilations, pads or auto_pad do not fit a 2-D", conv_model(strides=[1])),
    ("strides, dilations, pads or auto_pad do not fit a 2-D", conv_model(pads=[1, 1])),
    ("strides, dilations, pads or auto_pad do not fit a 2-D", conv_model(auto_pad="DIAGONAL")),
    ("must be at least 1", conv_model(strides=[0, 1])),
    ("must be at least 1", conv_model(group=0)),
    ("its 6 output channels cannot be divided into 4 groups", conv_model(weights=(6, 2, 3, 3), group=4)),
    ("its input has 4 channels, its weights are for 6", conv_model(weights=(6, 3, 3, 3), group=2)),
    ("its input has 3 dimensions, its weights have 4", conv_model(shape=(1, 4, 8))),
    ("its input has 0 dimensions, its weights have 4", conv_model(shape=())),
    ("its bias has shape [5]", with_conv(lambda model, conv: replace_initializer(model, "b", random_array(5)))),
    ("its output is empty for an input of shape [1, 4, 2, 8]", conv_model(shape=(1, 4, 2, 8))),
    ("an optional bias and one output", with_conv(lambda model, conv: conv.input.append("b"))),
    ("an optional bias and one output", with_conv(lambda model, conv: conv.input.__delitem__(slice(1, 3)))),
    ("an optional bias and one output", with_conv(lambda model, conv: conv.input.__setitem__(1, ""))),
]


@pytest.mark.parametrize(("sentence", "model"), REFUSALS, ids=[sentence for sentence, _ in REFUSALS])
def test_refusals(sentence: str, model: onnx.ModelProto) -> None:
    layer = check(model)
    assert layer.refusal is not None and sentence in layer.refusal, layer.refusal


def test_defaults_are_filled_in_and_the_kernel_comes_from_the_weights() -> None:
    spec = read(conv_model()).spec
    assert (spec.kernel, spec.strides, spec.dilations) == ((3, 3), (1, 1), (1, 1))
    assert (spec.pads, spec.group, spec.auto_pad) == ((0, 0, 0, 0), 1, "NOTSET")
    assert (spec.rows, spec.columns, spec.out_channels) == (36, 36, 6)


def test_everything_is_read() -> None:
    model = conv_model(
        weights=(6, 2, 3, 5),
        shape=(2, 4, 20, 30),
        kernel_shape=[3, 5],
        strides=[2, 3],
        dilations=[2, 1],
        pads=[1, 2, 3, 4],
        group=2,
    )
    layer = read(model)
    spec = layer.spec
    assert (spec.input_shape, spec.weight_shape) == ((2, 4, 20, 30), (6, 2, 3, 5))
    assert (spec.kernel, spec.strides, spec.dilations) == ((3, 5), (2, 3), (2, 1))
    assert (spec.pads, spec.group) == ((1, 2, 3, 4), 2)
    assert (spec.out_height, spec.out_width) == (10, 11)
    again = {attribute.name: list(attribute.ints) or attribute.i for attribute in layer.proto.attribute}
    assert attributes_of(spec) == again


@pytest.mark.parametrize(
    ("auto_pad", "pads"), [("SAME_UPPER", (0, 0, 1, 1)), ("SAME_LOWER", (1, 1, 0, 0)), ("VALID", (0, 0, 0, 0))]
)
def test_auto_pad(auto_pad: str, pads: tuple[int, ...]) -> None:
    spec = read(conv_model(auto_pad=auto_pad, strides=[2, 2])).spec
    assert (spec.auto_pad, spec.pads) == (auto_pad, pads)
    assert "pads" not in attributes_of(spec) and attributes_of(spec)["auto_pad"] == auto_pad


def test_one_dimension_becomes_two() -> None:
    spec = read(conv_model(weights=(6, 4, 5), shape=(2, 4, 30), strides=[2], pads=[1, 2], dilations=[3])).spec
    assert spec.one_dimensional
    assert (spec.kernel, spec.strides) == ((1, 5), (1, 2))
    assert (spec.pads, spec.dilations) == ((0, 1, 0, 2), (1, 3))
    assert (spec.out_height, spec.out_width) == (1, 11)
    assert (spec.input_shape, spec.weight_shape, spec.output_shape) == ((2, 4, 30), (6, 4, 5), (2, 6, 11))


def test_unknown_sizes_are_zero() -> None:
    """The input is resized to sizes that are fed: nobody can know them before run time."""
    model = conv_model()
    model.graph.node[0].input[0] = "u"
    model.graph.node.insert(0, helper.make_node("Resize", ["x", "", "", "sizes"], ["u"]))
    model.graph.input.append(value("sizes", [4], TensorProto.INT64))
    layer = read(model)
    assert not layer.spec.size_known
    assert (layer.spec.in_channels, layer.spec.columns, layer.spec.rows) == (4, 36, 0)
    report = Decision(layer, "").report()
    assert (report.N, report.K, report.M) == (None, 36, 6)


def test_refused_layers_stay_refused() -> None:
    conv = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
    model = conv_model()
    model.graph.node[0].CopyFrom(conv)
    assert "transposed" in str(check(model).refusal)


def test_computed_weights_are_found() -> None:
    model = conv_model()
    model.graph.node[0].input[1] = "wt"
    model.graph.node.insert(0, helper.make_node("Transpose", ["hwio"], ["wt"], perm=[3, 2, 0, 1]))
    hwio = random_array(3, 3, 4, 6)
    model.graph.initializer.append(tensor("hwio", hwio))
    np.testing.assert_array_equal(read(model).weights, hwio.transpose(3, 2, 0, 1))


def test_sizes_are_those_that_are_given() -> None:
    model = conv_model(shape=["N", 4, "H", "W"])
    prepared = find_layers(model, {"x": (2, 4, 10, 12)})
    assert prepared.bound == {"x": (2, 4, 10, 12)}
    assert prepared.convolutions["conv"].spec.input_shape == (2, 4, 10, 12)
    with pytest.raises(ConfigError, match="--shape q"):
        find_layers(model, {"q": (1,)})
