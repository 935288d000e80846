"""What models declare about their inputs, and arrays that do or do not fit."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from reuse_compiler.errors import DataError
from reuse_compiler.verification.inputs import InputSpec, check_names, model_inputs

X = InputSpec("x", np.dtype(np.float32), ("N", 3, 4))


def test_reads_names_types_and_dims_without_initializers() -> None:
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, None, -1]),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]),
        helper.make_tensor_value_info("n", TensorProto.INT64, []),
        helper.make_tensor_value_info("any", TensorProto.FLOAT16, None),
    ]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    model = helper.make_model(helper.make_graph([], "g", inputs, [], [weight]))
    x, n, anything = model_inputs(model)
    assert x == InputSpec("x", np.dtype(np.float32), ("N", 3, "", "")) and x.is_dynamic
    assert n == InputSpec("n", np.dtype(np.int64), ()) and not n.is_dynamic
    assert anything.dims is None and anything.dtype == np.float16
    assert str(x) == "'x' float32 [N, 3, ?, ?]"


def test_a_sequence_cannot_be_fed() -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    with pytest.raises(DataError, match="'s' is not a tensor"):
        model_inputs(helper.make_model(helper.make_graph([], "g", [sequence], [])))


@pytest.mark.parametrize("element", [0, 65, -1])
def test_elements_of_no_type_cannot_be_fed(element: int) -> None:
    x = helper.make_tensor_value_info("x", element, [2])
    with pytest.raises(DataError, match=f"the elements of input 'x' are of type {element}, which ONNX does not have"):
        model_inputs(helper.make_model(helper.make_graph([], "g", [x], [])))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.float32])
def test_floats_are_converted(dtype: type) -> None:
    array = X.accept(np.ones((2, 3, 4), dtype), "here")
    assert array.dtype == np.float32 and array.shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 3, 5), np.float32), r"here: an array of shape \[2, 3, 5\] does not fit the input 'x'"),
        (np.ones((3, 4), np.float32), "does not fit the input 'x' float32"),
        (np.ones((2, 4, 3), np.float32), r"does not fit .*: it would with its axes in the order \(0, 2, 1\)$"),
        (np.ones((2, 5, 3), np.float32), r"does not fit the input 'x' float32 \[[^]]*\]$"),
        (
            np.ones((2, 3, 4), np.uint8),
            r"here: an array of type uint8 does not fit .* as in array\.astype\('float32'\) / 255",
        ),
        (np.ones((2, 3, 4), np.complex64), r"complex64 does not fit .* as in array\.astype\('float32'\)$"),
    ],
)
def test_arrays_that_do_not_fit(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        X.accept(array, "here")


def test_integers_change_their_width_only_without_loss() -> None:
    spec = InputSpec("i", np.dtype(np.uint8), ("N",))
    assert spec.accept(np.array([0, 255]), "here").dtype == np.uint8
    with pytest.raises(DataError, match="some values do not fit"):
        spec.accept(np.array([0, 256]), "here")


def test_names_must_be_the_models() -> None:
    check_names({"x": 1}, [X], "f.npz")
    with pytest.raises(DataError, match=r"f.npz has no array for the input 'x'; it has \['y'\]"):
        check_names({"y": 1}, [X], "f.npz")
    with pytest.raises(DataError, match=r"f.npz has an array 'y', but the model's inputs are \['x'\]"):
        check_names({"x": 1, "y": 1}, [X], "f.npz")
