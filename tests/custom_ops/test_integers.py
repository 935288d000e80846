"""ReuseConvInteger against onnxruntime's ConvInteger, Cast, Mul and Add, and against the reference, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

import reuse_compiler
from reuse_compiler.passes.add_function_bodies import add_function_bodies
from reuse_compiler.passes.lower_to_reuse import DOMAIN
from reuse_compiler.reference import REFERENCE_OPS
from reuse_compiler.reuse.geometry import ConvSpec, Layout
from tests.custom_ops.quantised_cases import Array, Byte, QuantisedCase, quantised_cases, runtime_saturates
from tests.running import fed, make_session, run_kernels, run_reference, run_with_isa

SPEC = ConvSpec(2, 6, 7, 9, 20, (3, 3), pads=(1, 1, 1, 1))
CASE = QuantisedCase(SPEC, "channel", 6, distinct=3, small_weights=runtime_saturates())
SCALES = st.sampled_from([None, 1.0, -0.5, 0.0, 1e-30, 3e38, np.inf, np.nan])


def assert_same_bits(actual: Array, expected: Array) -> None:
    """Bits of a NaN may be others."""
    np.testing.assert_array_equal(actual, expected, strict=True)
    np.testing.assert_array_equal(np.signbit(actual[~np.isnan(actual)]), np.signbit(expected[~np.isnan(expected)]))


def run_original(case: QuantisedCase, scale: Any = None) -> Array:
    result: Array = make_session(case.integer_original(scale)).run(None, {"X": case.x()})[0]
    return result


@settings(max_examples=300, deadline=None)
@given(case=quantised_cases(only_runtime_types=True), scale=SCALES)
def test_kernel_is_onnxruntimes_convolution(case: QuantisedCase, scale: float | None) -> None:
    assert_same_bits(run_kernels(case.integer_model(scale), case.x()), run_original(case, scale))


@settings(max_examples=150, deadline=None)
@given(case=quantised_cases(), scale=SCALES)
def test_kernel_matches_reference(case: QuantisedCase, scale: float | None) -> None:
    model, x = case.integer_model(scale), case.x()
    with np.errstate(all="ignore"):
        assert_same_bits(run_kernels(model, x), run_reference(model, x))


@pytest.mark.parametrize("name", ["avx512", "avx2", "baseline"])
def test_every_instruction_set_gives_the_same_bits(name: str) -> None:
    run_with_isa("tests.custom_ops.test_integers", name)


def check_cases() -> None:
    """Compares some cases with the reference."""
    for seed in range(8):
        types: tuple[Byte, Byte, Byte] = ("int8", "uint8", "int8") if seed % 2 else ("uint8", "int8", "uint8")
        spec, points = ConvSpec(1 + seed % 2, 37, 9, 11, 83, (3, 2), (1, 1 + seed % 2), (1, 0, 1, 1)), (3, 77, 0)
        layout: Layout = "channel" if seed < 4 else "patch"
        case = QuantisedCase(spec, layout, 20, types=types, zero_points=points, seed=seed)
        model, x = case.integer_model(), case.x()
        assert_same_bits(run_kernels(model, x), run_reference(model, x))


@pytest.mark.parametrize("types", [("uint8", "int8", "uint8"), ("int8", "uint8", "int8")])
def test_zero_point_scale_and_bias_may_differ_from_run_to_run(types: tuple[Byte, Byte, Byte]) -> None:
    case = replace(CASE, types=types)
    model, rng = fed(case.integer_model(), "x_zero_point", "scale", "B"), np.random.default_rng(0)
    session, reference = make_session(model), ReferenceEvaluator(model, new_ops=REFERENCE_OPS)
    limits = np.iinfo(types[0])
    for zero_point in (limits.min, limits.max, 5):
        scale, bias = rng.random((2, 20), np.float32)
        feed = {"X": case.x(), "x_zero_point": np.array(zero_point, types[0]), "scale": scale, "B": bias}
        (expected,) = cast("list[Array]", reference.run(None, feed))
        assert_same_bits(session.run(None, feed)[0], expected)


def test_statistics_and_shape() -> None:
    session = reuse_compiler.session(CASE.integer_model().SerializeToString())
    session.run(None, {"X": CASE.x()})
    (node,) = reuse_compiler.statistics(session)
    assert (node.op, node.runs, node.rows, node.clusters) == ("ReuseConvInteger", 1, 2 * 63, 3)
    output = session.get_outputs()[0]
    assert output.shape == ["N", "H", "W", 20] and output.type == "tensor(float)"


@pytest.mark.parametrize("bias", [False, True])
def test_its_function_is_the_original_where_the_library_is_missing(bias: bool) -> None:
    case = replace(CASE, bias=True)
    model = case.integer_model()
    if not bias:  # as the compiler writes it for nodes without one
        (tensor,) = (each for each in model.graph.initializer if each.name == "B")
        tensor.raw_data = np.full(20, -0.0, np.float32).tobytes()
    add_function_bodies(model)
    assert [function.name for function in model.functions] == ["ReuseConvInteger"]
    alone = make_session(model, library=False).run(None, {"X": case.x()})[0]
    assert_same_bits(alone, run_kernels(model, case.x()))
    if bias:
        assert_same_bits(alone, run_original(case))


def node_with(**changes: Any) -> onnx.ModelProto:
    """Returns the model of the case with other constants or attributes."""
    constants = {name: np.asarray(changes.pop(name, value)) for name, value in CASE.integer_constants().items()}
    return CASE.with_node("ReuseConvInteger", constants, DOMAIN, CASE.attributes() | changes, dynamic=True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"w": np.zeros((20, 6, 3, 2), np.int8)}, r"w has shape \[20x6x3x2\], which does not fit kernel_shape"),
        ({"w_zero_point": np.zeros(3, np.int8)}, r"w_zero_point has shape \[3\], must be a scalar or have 1 element"),
        ({"x_zero_point": np.zeros(3, np.uint8)}, r"x_zero_point has shape \[3\], must be a scalar or have 1 element"),
        ({"scale": np.zeros(19, np.float32)}, "scale has 19 elements, needs 1 or 20"),
        ({"B": np.zeros(19, np.float32)}, r"B has shape \[19\], needs \[20\]"),
        ({"scope": "session"}, "scope must be batch or image"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception, match=f"ReuseConvInteger 'conv': .*{sentence}"):
        make_session(node_with(**changes)).run(None, {"X": CASE.x()})


@pytest.mark.parametrize("name", ["w", "w_zero_point"])
def test_weights_must_be_constant(name: str) -> None:
    with pytest.raises(Exception, match=f"{name} is not constant; all inputs but x, x_zero_point, scale and B must be"):
        make_session(fed(CASE.integer_model(), name))


def test_inputs_of_other_types_are_refused() -> None:
    model = CASE.integer_model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    with pytest.raises(Exception, match=r"(?i)type"):
        make_session(model)


if __name__ == "__main__":
    check_cases()
