"""QLinearReuseConv against onnxruntime's QLinearConv and against the reference, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from onnx import TensorProto

import reuse_compiler
from reuse_compiler.passes.add_function_bodies import add_function_bodies
from reuse_compiler.passes.lower_to_reuse import DOMAIN
from reuse_compiler.reuse.geometry import ConvSpec
from tests.custom_ops.quantised_cases import Array, QuantisedCase, quantised_cases, runtime_saturates
from tests.running import fed, make_session, run_kernels, run_reference, run_with_isa

SPEC = ConvSpec(2, 6, 7, 9, 20, (3, 3), pads=(1, 1, 1, 1))
CASE = QuantisedCase(SPEC, "channel", 6, distinct=3, small_weights=runtime_saturates())


def run_original(case: QuantisedCase) -> Array:
    result: Array = make_session(case.original()).run(None, {"X": case.x()})[0]
    return result


@settings(max_examples=300, deadline=None)
@given(case=quantised_cases(only_runtime_types=True))
def test_kernel_is_onnxruntimes_convolution(case: QuantisedCase) -> None:
    np.testing.assert_array_equal(run_kernels(case.model(), case.x()), run_original(case), strict=True)


@settings(max_examples=150, deadline=None)
@given(case=quantised_cases())
def test_kernel_matches_reference(case: QuantisedCase) -> None:
    x = case.x()
    np.testing.assert_array_equal(run_kernels(case.model(), x), run_reference(case.model(), x), strict=True)


@pytest.mark.parametrize("layout", ["channel", "patch"])
@pytest.mark.parametrize("types", [("uint8", "int8", "uint8"), ("int8", "int8", "int8"), ("uint8", "uint8", "uint8")])
def test_many_outputs_are_rounded_as_onnxruntime_does(types: Any, layout: Any) -> None:
    """Of so many sums some are halves, or would be others if the scale had another last bit."""
    spec = ConvSpec(1, 70, 40, 40, 200, (3, 3), pads=(1, 1, 1, 1))
    case = QuantisedCase(spec, layout, 70, types=types, zero_points=(3, 128, 100), small_weights=runtime_saturates())
    for spread in (30.0, 600.0):
        own = replace(case, spread=spread, distinct=150 if spread > 100 else 0)
        np.testing.assert_array_equal(run_kernels(own.model(), own.x(), threads=2), run_original(own), strict=True)


@pytest.mark.parametrize("name", ["avx512", "avx2", "baseline"])
def test_every_instruction_set_gives_the_same_bytes(name: str) -> None:
    run_with_isa("tests.custom_ops.test_quantised", name)


def check_cases() -> None:
    """Compares some cases with the reference."""
    for seed in range(12):
        types: Any = [("uint8", "int8", "uint8"), ("int8", "uint8", "int8"), ("uint8", "uint8", "int8")][seed % 3]
        spec = ConvSpec(1 + seed % 2, 37, 9, 11, 83, (3, 2), (1, 1 + seed % 2), (1, 0, 1, 1))
        points = (3, 128 if seed % 4 else 77, 100)
        case = QuantisedCase(
            spec, "channel", 20, types=types, zero_points=points, distinct=9 if seed % 2 else 0, seed=seed
        )
        for layout in ("channel", "patch"):
            own = replace(case, layout=layout)
            x = own.x()
            np.testing.assert_array_equal(run_kernels(own.model(), x), run_reference(own.model(), x), err_msg=repr(own))


def test_statistics_have_the_distinct_vectors() -> None:
    session = reuse_compiler.session(CASE.model().SerializeToString())
    session.run(None, {"X": CASE.x()})
    (node,) = reuse_compiler.statistics(session)
    assert (node.op, node.runs, node.blocks) == ("QLinearReuseConv", 1, 1)
    assert (node.rows, node.vectors, node.clusters, node.guarded) == (2 * 63, 2 * 63, 3, 0)
    assert node.scratch_bytes > 0 and node.seconds.hash > 0 and node.seconds.gemm > 0 and node.seconds.gather > 0


def test_shape_and_type_are_inferred() -> None:
    for types in (("uint8", "int8", "int8"), ("int8", "int8", "uint8")):
        output = make_session(replace(CASE, types=types).model(dynamic=False)).get_outputs()[0]
        assert output.shape == [2, 7, 9, 20] and output.type == f"tensor({types[2]})"


@pytest.mark.parametrize("bias", [False, True])
def test_its_function_is_the_original_where_the_library_is_missing(bias: bool) -> None:
    case = replace(CASE, bias=bias)
    model = case.model()
    add_function_bodies(model)
    assert [function.name for function in model.functions] == ["QLinearReuseConv"]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    alone = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    expected = run_original(case)
    np.testing.assert_array_equal(alone.run(None, {"X": case.x()})[0], expected)
    np.testing.assert_array_equal(run_kernels(model, case.x()), expected)


def node_with(**changes: Any) -> onnx.ModelProto:
    """Returns the model of the case with other constants or attributes."""
    constants = {name: np.asarray(changes.pop(name, value)) for name, value in CASE.constants().items()}
    return CASE.with_node("QLinearReuseConv", constants, DOMAIN, CASE.attributes() | changes, dynamic=True)


@pytest.mark.parametrize("name", ["x_scale", "w_scale", "y_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, -np.inf])
def test_a_scale_that_is_none_is_refused(name: str, value: float) -> None:
    scale = np.full(CASE.constants()[name].shape, value, np.float32)
    with pytest.raises(Exception, match=f"QLinearReuseConv 'conv': {name} holds .*, must be positive and finite"):
        make_session(node_with(**{name: scale}))


BYTE = np.zeros((3,), np.uint8)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"x_zero_point": BYTE}, r"x_zero_point has shape \[3\], must be a scalar or have 1 element"),
        ({"y_zero_point": BYTE}, r"y_zero_point has shape \[3\], must be a scalar or have 1 element"),
        ({"w_zero_point": BYTE.view(np.int8)}, r"w_zero_point has shape \[3\], must be .* have 1 element or 20"),
        ({"w_scale": np.ones((20, 1), np.float32)}, r"w_scale has shape \[20x1\], must be"),
        ({"B": np.zeros(19, np.int32)}, r"B has shape \[19\], needs \[20\]"),
        ({"w": np.zeros((20, 6, 3), np.int8)}, r"w has shape \[20x6x3\], needs rank 4"),
        ({"w": np.zeros((20, 6, 3, 2), np.int8)}, r"w has shape \[20x6x3x2\], which does not fit kernel_shape"),
        ({"scope": "session"}, "scope must be batch or image"),
        ({"scope": "pixel"}, "scope is 'pixel'"),
        ({"sub_vector_length": 7}, "sub_vector_length"),
        ({"x_scale": np.float32(1e38), "w_scale": np.float32(10)}, "is not finite in output channel 0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception, match=f"QLinearReuseConv 'conv': .*{sentence}"):
        make_session(node_with(**changes))


@pytest.mark.parametrize("name", list(CASE.constants()))
def test_an_input_that_is_not_constant_is_refused(name: str) -> None:
    with pytest.raises(Exception, match=f"QLinearReuseConv 'conv': {name} is not constant; all inputs but x must be"):
        make_session(fed(CASE.model(), name))


def test_an_input_of_another_shape_is_refused_when_it_comes() -> None:
    model = CASE.model()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    session = make_session(model)
    with pytest.raises(Exception, match="'conv': x has 5 channels, which does not fit the 6 of w and group"):
        session.run(None, {"X": np.zeros((1, 9, 9, 5), np.uint8)})
    with pytest.raises(Exception, match=r"'conv': x has shape \[1x9x6\], needs rank 4"):
        session.run(None, {"X": np.zeros((1, 9, 6), np.uint8)})
    assert session.run(None, {"X": np.zeros((0, 9, 9, 6), np.uint8)})[0].shape == (0, 9, 9, 20)


def test_inputs_of_other_types_are_refused() -> None:
    model = CASE.model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    with pytest.raises(Exception, match=r"(?i)type"):
        make_session(model)


if __name__ == "__main__":
    check_cases()
