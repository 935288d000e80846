"""Values and copies of tensors, inside a model or in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reuse_compiler.errors import ModelError
from reuse_compiler.graph.tensors import (
    copy_message,
    copy_without_data,
    data_bytes,
    external_data,
    is_external,
    raw_bytes,
    set_external_data,
    tensors_of,
    to_array,
)
from tests.passes.models import Array, conv_model, random_array, tensor


def external(name: str, array: Array, file: Path, offset: int = 0) -> TensorProto:
    result = TensorProto(name=name, data_type=tensor("", array).data_type, dims=array.shape)
    with file.open("ab") as stream:
        stream.write(b"\0" * (offset - stream.tell()) + array.tobytes())
    set_external_data(result, str(file), offset, array.nbytes)
    return result


@pytest.mark.parametrize("element", [np.float32, np.int64, np.float16, np.uint8])
def test_external_values_are_those_of_the_file(tmp_path: Path, element: type) -> None:
    array: Array = np.arange(12).astype(element).reshape(3, 4)
    stored = external("w", array, tmp_path / "data", offset=64)
    assert is_external(stored)
    np.testing.assert_array_equal(to_array(stored), array)
    assert raw_bytes(stored) == array.tobytes()


def test_typed_fields_have_the_same_raw_bytes() -> None:
    typed = helper.make_tensor("t", TensorProto.FLOAT, [2], [1.5, -2.0])
    assert not typed.HasField("raw_data")
    assert raw_bytes(typed) == np.array([1.5, -2.0], np.float32).tobytes()


@pytest.mark.parametrize(
    ("element", "dims", "expected"),
    [
        (TensorProto.FLOAT, [2, 3], 24),
        (TensorProto.INT4, [3], 2),
        (TensorProto.BFLOAT16, [3], 6),
        (TensorProto.BOOL, [], 1),
        (TensorProto.STRING, [4], 0),
        (TensorProto.FLOAT, [0, 3], 0),
    ],
)
def test_data_bytes(element: int, dims: list[int], expected: int) -> None:
    assert data_bytes(TensorProto(data_type=element, dims=dims)) == expected


def test_external_data_without_length_is_as_long_as_the_tensor() -> None:
    plain = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[5], data_location=TensorProto.EXTERNAL)
    plain.external_data.add(key="location", value="weights.bin")
    assert (external_data(plain).offset, external_data(plain).length) == (0, 20)


@pytest.mark.parametrize(("key", "text"), [("offset", "x"), ("offset", "-4"), ("location", "")])
def test_malformed_entries_are_model_errors(key: str, text: str) -> None:
    broken = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[5])
    set_external_data(broken, "weights.bin", 0, 20)
    next(entry for entry in broken.external_data if entry.key == key).value = text
    with pytest.raises(ModelError, match="tensor 'w'"):
        external_data(broken)


def test_missing_and_short_files_are_model_errors(tmp_path: Path) -> None:
    stored = external("w", random_array(8), tmp_path / "data")
    (tmp_path / "data").write_bytes(b"short")
    with pytest.raises(ModelError, match="truncated"):
        to_array(stored)
    (tmp_path / "data").unlink()
    with pytest.raises(ModelError, match="cannot read the external data"):
        to_array(stored)


def test_all_tensors_are_found() -> None:
    body = helper.make_graph(
        [helper.make_node("Constant", [], ["k"], value=tensor("in_body", random_array(2)))], "body", [], []
    )
    body.initializer.append(tensor("body_init", random_array(2)))
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    function = helper.make_function(
        "f", "f", [], ["y"], [helper.make_node("Constant", [], ["y"], value=tensor("in_function", random_array(1)))], []
    )
    model = conv_model()
    model.graph.node.append(node)
    model.functions.append(function)
    names = [t.name for t in tensors_of(model)]
    assert sorted(names) == sorted(["w", "b", *["in_body", "body_init"] * 2, "in_function"])


def test_copy_message_is_a_copy() -> None:
    model = conv_model()
    model.metadata_props.add(key="k", value="v")
    model.graph.doc_string = "text"
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=tensor("t", random_array(2))))
    copy = onnx.ModelProto()
    copy_message(model, copy, lambda source, target: target.CopyFrom(source))
    assert copy == model
    assert copy.SerializeToString() == model.SerializeToString()


def test_copy_without_data_keeps_types_shapes_and_small_tensors(tmp_path: Path) -> None:
    model = conv_model()
    small = external("small", np.array([1, 2], np.int64), tmp_path / "data")
    model.graph.initializer.append(small)
    copy = copy_without_data(model, keep_bytes=64)
    weights, bias, inlined = copy.graph.initializer
    assert list(weights.dims) == [6, 4, 3, 3] and weights.data_type == TensorProto.FLOAT and not weights.raw_data
    np.testing.assert_array_equal(to_array(bias), to_array(model.graph.initializer[1]))
    assert not is_external(inlined) and to_array(inlined).tolist() == [1, 2]
    assert model.graph.initializer[0].raw_data


@pytest.mark.parametrize(
    "damage",
    [
        {"data_type": 0},
        {"data_type": 65},
        {"dims": [3]},
        {"dims": [-2]},
        {"dims": [2**40]},
        {"raw_data": b"12345"},
        {"segment": TensorProto.Segment(begin=0, end=1)},
    ],
    ids=lambda damage: str(damage)[:20],
)
def test_a_tensor_whose_values_make_no_array_is_a_model_error(damage: dict[str, Any]) -> None:
    valid = dict[str, Any](name="w", data_type=TensorProto.FLOAT, dims=[2], raw_data=bytes(8))
    assert to_array(TensorProto(**valid)).shape == (2,)
    with pytest.raises(ModelError, match=r"tensor 'w' of the model is malformed.*export the model again"):
        to_array(TensorProto(**valid | damage))
