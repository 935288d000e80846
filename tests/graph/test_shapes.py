"""Input shapes are bound as the user says or as assumed, and tensors' shapes follow from them."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reuse_compiler.errors import ConfigError
from reuse_compiler.graph.shapes import bind_shapes, infer_shapes, tensor_shapes
from reuse_compiler.graph.structure import given_inputs
from tests.passes.models import conv_model, model_of, random_array, tensor, value


def two_inputs(first: list[int | str | None], second: list[int | str | None]) -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", ["a"], ["y"]), helper.make_node("Identity", ["b"], ["z"])]
    return model_of(nodes, [value("a", first), value("b", second)], [value("y", None), value("z", None)])


def test_static_shapes_need_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert bind_shapes(conv_model(), {}) == {"x": (1, 4, 8, 8)}
    assert not caplog.records


def test_dynamic_dimensions_are_assumed_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert bind_shapes(conv_model(shape=["N", 4, "H", None]), {}) == {"x": (1, 4, 224, 224)}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "x[0] (N) = 1, x[2] (H) = 224, x[3] = 224" in record.message
    assert "--shape x:1,4,224,224" in record.message


def test_given_shapes_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    model = conv_model(shape=["N", 4, "H", "W"])
    assert bind_shapes(model, {"x": (2, 4, 30, 40)}) == {"x": (2, 4, 30, 40)}
    assert not caplog.records


def test_equal_names_are_equal_sizes() -> None:
    model = two_inputs(["N", 3], ["N", "M"])
    assert bind_shapes(model, {"b": (5, 7)}) == {"a": (5, 3), "b": (5, 7)}
    assert bind_shapes(two_inputs([2, "S"], ["S"]), {}) == {"a": (2, 224), "b": (224,)}


def test_negative_sizes_in_the_model_are_dynamic() -> None:
    assert bind_shapes(two_inputs([-1, 3], [-1]), {"b": (6,)}) == {"a": (1, 3), "b": (6,)}


def test_equal_names_may_be_given_unequal_sizes() -> None:
    """As onnxruntime takes them: the name is a hint only."""
    shapes = {"a": (2, 3), "b": (4, 5)}
    magic = helper.make_node("Magic", ["a"], ["m"], domain="other")
    model = two_inputs(["N", 3], ["N", "M"])
    model.opset_import.add(domain="other", version=1)
    model.graph.node.append(magic)
    model.graph.value_info.append(value("m", ["N", "M"]))
    assert bind_shapes(model, shapes) == shapes
    found = tensor_shapes(model, shapes)
    assert (found["y"], found["z"], found["m"]) == ((2, 3), (4, 5), (None, 5))


def test_an_input_without_a_rank_takes_any_shape() -> None:
    model = conv_model(shape=[1, 4, 8, 8])
    model.graph.input[0].CopyFrom(value("x", None))
    assert bind_shapes(model, {}) == {}
    assert bind_shapes(model, {"x": (2, 4, 16, 16)}) == {"x": (2, 4, 16, 16)}
    assert tensor_shapes(model, {"x": (2, 4, 16, 16)})["y"] == (2, 6, 14, 14)
    with pytest.raises(ConfigError, match="dimension 1 is 0; give sizes of at least 1"):
        bind_shapes(model, {"x": (2, 0)})


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ({"c": (1, 2)}, "--shape c: the model has no such input; its inputs are 'a', 'b'"),
        ({"a": (1, 2, 3)}, "--shape a: 3 dimensions given, the model's input has 2"),
        ({"a": (1, 4)}, "--shape a: dimension 1 is 4, but the model fixes it at 3"),
        ({"a": (0, 3)}, "dimension 0 is 0; give sizes of at least 1"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, tuple[int, ...]], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        bind_shapes(two_inputs(["N", 3], ["N", "M"]), shapes)


def test_initializers_and_sequences_are_not_inputs_to_bind() -> None:
    model = conv_model(ir_version=3)
    model.graph.input.extend([value("w", [6, 4, 3, 3]), value("b", [6])])
    model.graph.input.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    assert [entry.name for entry in given_inputs(model.graph)] == ["x", "s"]
    assert bind_shapes(model, {}) == {"x": (1, 4, 8, 8)}


def test_shapes_follow_from_the_inputs_not_from_stale_declarations() -> None:
    relu = helper.make_node("Relu", ["c"], ["y"])
    model = conv_model(shape=["N", 4, "H", "W"], activation=relu, strides=[2, 2])
    model.graph.value_info.append(value("c", [1, 6, 3, 3]))
    del model.graph.output[:]
    model.graph.output.append(value("y", [1, 6, 3, 3]))
    shapes = tensor_shapes(model, {"x": (2, 4, 11, 21)})
    assert shapes["c"] == shapes["y"] == (2, 6, 5, 10)
    assert shapes["w"] == (6, 4, 3, 3)


def test_shapes_computed_from_shapes_are_followed() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Slice", ["s", "zero", "two"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": [0], "two": [1], "rest": [4, -1]}
    initializers = [tensor(name, np.array(v, np.int64)) for name, v in constants.items()]
    model = model_of(nodes, [value("x", ["N", 8, 6])], [value("y", None)], initializers)
    assert tensor_shapes(model, {"x": (3, 8, 6)})["y"] == (3, 4, 12)


def test_what_custom_operators_compute_is_known_from_declarations() -> None:
    nodes = [helper.make_node("Magic", ["x"], ["m"], domain="other"), helper.make_node("Relu", ["m"], ["y"])]
    model = model_of(nodes, [value("x", ["N", 4])], [value("y", None)], domains=["other"])
    model.graph.value_info.append(value("m", ["N", 9]))
    assert tensor_shapes(model, {"x": (5, 4)})["y"] == (5, 9)


def test_bodies_have_shapes_of_their_own() -> None:
    def body(kernel: int) -> onnx.GraphProto:
        conv = helper.make_node("Conv", ["x", f"w{kernel}"], ["same_name"])
        weights = tensor(f"w{kernel}", random_array(2, 4, kernel, kernel))
        return helper.make_graph([conv], f"body{kernel}", [], [value("same_name", None)], [weights])

    branch = helper.make_node("If", ["cond"], ["y"], then_branch=body(3), else_branch=body(5))
    relu = helper.make_node("Relu", ["x"], ["r"])
    inputs = [value("x", [1, 4, "H", 8]), value("cond", [], TensorProto.BOOL)]
    model = model_of([relu, branch], inputs, [value("y", None), value("r", None)])
    table = infer_shapes(model, {"x": (1, 4, 8, 8), "cond": ()})
    found = {table.of((1, number), "same_name") for number in (0, 1)}
    assert found == {(1, 2, 6, 6), (1, 2, 4, 4)}
    assert table.of((1, 0), "r") == (1, 4, 8, 8)
    assert table.of((), "same_name") is None


def test_a_model_that_inference_rejects_has_unknown_shapes(caplog: pytest.LogCaptureFixture) -> None:
    model = conv_model(shape=[1, 4, 8, 8], pads=[1, 1])
    assert "y" not in tensor_shapes(model, {"x": (1, 4, 8, 8)})


def test_weights_are_not_copied_and_the_model_is_not_changed() -> None:
    model = conv_model(shape=["N", 4, 8, 8])
    before = model.SerializeToString()
    tensor_shapes(model, {"x": (2, 4, 8, 8)})
    assert model.SerializeToString() == before
