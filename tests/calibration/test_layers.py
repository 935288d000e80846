"""Which convolutions can be calibrated, and what is known of them."""

import numpy as np
import onnx
import pytest
from onnx import helper

from reuse_compiler.calibration.layers import examine
from reuse_compiler.calibration.options import CalibrationOptions
from tests.calibration.networks import (
    conv,
    feeds_of,
    network,
    network_1d,
    relu,
    weight,
    work_of,
)
from tests.comparison import assert_close
from tests.passes.models import model_of, random_array, run, tensor, value


def test_a_layer_of_one_dimension_is_as_the_model_has_it() -> None:
    work = work_of(network_1d())
    assert [layer.spec.input_shape for layer in work.layers] == [(2, 4, 32), (2, 8, 32)]
    assert [layer.spec.output_shape for layer in work.layers] == [(2, 8, 32), (2, 6, 15)]
    for layer in work.layers:
        own = layer.weight.array
        assert own.shape == layer.spec.weight_shape and own.ndim == 3
        np.testing.assert_array_equal(own[:, :, None], layer.weights)


def test_the_activation_counts_where_it_alone_reads_the_result() -> None:
    work = work_of(network())
    assert [(layer.linear_output, layer.output) for layer in work.layers] == [("c1", "r1"), ("c2", "r2"), ("y", "y")]
    model = network()
    model.graph.output.append(value("c1", None))
    assert [layer.output for layer in work_of(model).layers] == ["c1", "r2", "y"]


def test_a_layer_alone_computes_what_it_does_in_the_model() -> None:
    model, feed = network(), feeds_of(network(), 1)[0]
    work = work_of(model)
    tensors = [name for layer in work.layers for name in (layer.input, layer.output)]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in ("x", "y"))
    values = dict(zip([o.name for o in model.graph.output], run(model, feed), strict=True)) | feed
    for layer in work.layers:
        assert (
            values[layer.input].shape == layer.spec.input_shape
            and values[layer.output].shape == layer.spec.output_shape
        )
        assert_close(run(work.alone(layer).model, {layer.input: values[layer.input]})[0], values[layer.output])


def nameless() -> onnx.ModelProto:
    """Two layers without a name, of which one computes a tensor that another node is named after."""
    nodes = [
        conv("x", "w1", "c"),
        relu("c", "r"),
        conv("r", "w2", "y"),
        helper.make_node("Relu", ["y"], ["z"], name="y"),
    ]
    constants = [weight("w1", 8, 4, 3, 3), weight("w2", 6, 8, 1, 1)]
    return model_of(nodes, [value("x", [1, 4, 8, 8])], [value("y", None), value("z", None)], constants)


def test_layers_keep_their_names_when_they_are_cut_out() -> None:
    work = work_of(nameless())
    assert [layer.name for layer in work.prepared.layers] == [layer.name for layer in work.layers] == ["c", "y#2"]
    for layer in work.layers:
        assert list(work.alone(layer).convolutions) == [layer.name]


def test_what_is_left_alone_has_a_reason() -> None:
    def body(result: str) -> onnx.GraphProto:
        return helper.make_graph([conv("r", "w3", result, f"inner_{result}")], result, [], [value(result, None)])

    nodes = [
        conv("x", "w1", "c", "first"),
        relu("c", "r"),
        conv("r", "w2", "d", "depthwise", group=8),
        conv("r", "w3", "e", "second"),
        helper.make_node("If", ["flag"], ["f"], then_branch=body("t"), else_branch=body("u")),
        helper.make_node("Add", ["e", "f"], ["g"]),
    ]
    constants = [weight("w1", 8, 4, 3, 3), weight("w2", 8, 1, 3, 3), weight("w3", 6, 8, 1, 1)]
    inputs = [value("x", ["N", 4, 8, 8]), value("flag", [], onnx.TensorProto.BOOL)]
    model = model_of(nodes, inputs, [value("g", None), value("d", None)], constants)
    work = examine(model, CalibrationOptions(shapes={"x": (2, 4, 8, 8)}, exclude="second"))
    assert [layer.name for layer in work.layers] == ["first"]
    order = [layer.name for layer in work.prepared.layers]
    assert order[:3] == ["first", "depthwise", "second"] and set(order[3:]) == {"inner_t", "inner_u"}
    assert {name: reason.split(":")[0][:30] for name, reason in work.dense.items()} == {
        "depthwise": "it is depthwise (one input cha",
        "second": "its name matches --exclude 'se",
        "inner_t": "it stands in the body of an If",
        "inner_u": "it stands in the body of an If",
    }
    unmatched = examine(model, CalibrationOptions(shapes={"x": (2, 4, 8, 8)}, layers="second"))
    assert [layer.name for layer in unmatched.layers] == ["second"] and "--layers" in unmatched.dense["first"]


def test_layers_whose_size_depends_on_values_stay_dense() -> None:
    """The second one reads as many columns as a further input says."""
    nodes = [
        conv("x", "w", "c", "first"),
        helper.make_node("Slice", ["x", "zero", "end", "axis"], ["s"]),
        conv("s", "w", "d", "second"),
    ]
    inputs = [value("x", ["N", 4, "T"]), value("end", [1], onnx.TensorProto.INT64)]
    constants = [weight("w", 8, 4, 3), tensor("zero", np.zeros(1, np.int64)), tensor("axis", np.array([2]))]
    model = model_of(nodes, inputs, [value("c", None), value("d", None)], constants)
    work = examine(model, CalibrationOptions(shapes={"x": (2, 4, 32)}))
    assert [layer.name for layer in work.layers] == ["first"] and "size is unknown" in work.dense["second"]
    assert work.layers[0].spec.input_shape == (2, 4, 32)


def test_weights_are_known_though_they_are_computed() -> None:
    """In the model they are transposed."""
    model = model_of(
        [helper.make_node("Transpose", ["hwio"], ["w"], perm=[3, 2, 0, 1]), conv("x", "w", "y", "conv")],
        [value("x", [1, 4, 8, 8])],
        [value("y", None)],
        [weight("hwio", 3, 3, 4, 6)],
    )
    (layer,) = work_of(model, {"x": random_array(1, 4, 8, 8)}).layers
    expected = onnx.numpy_helper.to_array(model.graph.initializer[0]).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(layer.weights, expected)
    np.testing.assert_array_equal(layer.biases, np.zeros(6, np.float32))


def test_sizes_that_inference_loses_are_measured_on_a_sample() -> None:
    model = network()
    negative = tensor("negative", np.array([0, 0, -1, -1] * 2))
    model.graph.initializer.append(negative)
    model.graph.node[0].input[0] = "padded"
    model.graph.node.insert(0, helper.make_node("Pad", ["x", "pads"], ["padded"]))
    model.graph.node.insert(0, helper.make_node("Neg", ["negative"], ["pads"]))
    options = CalibrationOptions(shapes={"x": (2, 3, 8, 8)})
    without = examine(model, options)
    assert not without.layers and "its input size is unknown" in without.dense["first"]
    measured = examine(model, options, {"x": random_array(2, 3, 8, 8)})
    assert [layer.spec.input_shape for layer in measured.layers][:2] == [(2, 3, 10, 10), (2, 8, 5, 5)]
    assert measured.alone(measured.layers[1]).layers[0].name == "grouped"


def test_a_pattern_that_matches_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert examine(network(), CalibrationOptions(layers="no such layer")).layers == []
    assert "--layers 'no such layer' matches no convolution; their names are " in caplog.text
