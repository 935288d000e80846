"""Pixel-major pooling: the kernels and our reference against the pools of onnxruntime and of ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from reuse_compiler.reference.op_run import DOMAIN
from tests.comparison import assert_close
from tests.running import make_session, run_kernels, run_reference

Attributes = dict[str, Any]
OPSET = 22
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def model(op: str, attributes: Attributes, shape: list[Any], domain: str = "") -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, ["X"], ["Y"], "pool", domain=domain, **attributes)],
        "pool",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def pool_model(op: str, attributes: Attributes, shape: list[Any] | None = None) -> onnx.ModelProto:
    return model(op, attributes, shape or ["N", "H", "W", "C"], DOMAIN)


def onnx_model(op: str, attributes: Attributes) -> onnx.ModelProto:
    """Returns ONNX's pool of the same attributes, on NCHW data."""
    return model(op, attributes, ["N", "C", "H", "W"])


def in_onnx_reference(attributes: Attributes, sizes: tuple[int, ...]) -> bool:
    """Whether ONNX's reference is right.

    It is not where pads differ, with ceil_mode, if windows skip pixels, or on an input that is smaller than the kernel.
    """
    if any(size < kernel for size, kernel in zip(sizes, attributes["kernel_shape"], strict=True)):
        return False
    pads, kernel = attributes.get("pads"), attributes["kernel_shape"]
    even = pads is not None and len(set(pads)) == 1 and not attributes["ceil_mode"]
    return even and all(stride <= size for stride, size in zip(attributes["strides"], kernel, strict=True))


def windows_of_onnxruntime(op: str, attributes: Attributes, planes: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Returns what onnxruntime pools; None if there is no window: no element, or an error of negative sizes."""
    try:
        result = run_kernels(onnx_model(op, attributes), planes)
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
        return None
    return result if result.size else None


@st.composite
def pools(draw: st.DrawFn) -> tuple[str, Attributes, tuple[int, int, int, int]]:
    """Draws an operator, its attributes, and a shape [N, H, W, channels] that they fit."""
    op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    attributes: Attributes = {
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 3)) for _ in range(2)],
    }
    auto_pad = draw(st.sampled_from(["NOTSET", "NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto_pad == "NOTSET":
        even = st.integers(0, min(kernel) - 1).map(lambda pad: [pad] * 4)
        uneven = st.tuples(*(st.integers(0, kernel[axis % 2] - 1) for axis in range(4))).map(list)
        attributes["pads"] = draw(st.one_of(even, uneven))
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    else:
        attributes["auto_pad"] = auto_pad
        # onnxruntime takes no SAME padding where windows skip pixels.
        attributes["strides"] = [min(pair) for pair in zip(attributes["strides"], kernel, strict=True)]
    height, width = (draw(st.integers(1, size + 7)) for size in kernel)
    fits = height >= kernel[0] and width >= kernel[1]
    if op == "AveragePool" and not attributes.get("ceil_mode") and fits:
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    return op, attributes, (draw(st.integers(1, 3)), height, width, draw(st.integers(1, 70)))


@quick
@given(case=pools(), seed=st.integers(0, 2**16))
def test_equals_onnx(case: tuple[str, Attributes, tuple[int, ...]], seed: int) -> None:
    op, attributes, shape = case
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    theirs = windows_of_onnxruntime(op, attributes, planes)
    if theirs is None:
        for run in (run_kernels, run_reference):
            with pytest.raises(Exception, match="is smaller than the kernel"):
                run(pool_model(op, attributes), x)
        return
    actual = run_kernels(pool_model(op, attributes), x)
    assert_close(run_reference(pool_model(op, attributes), x), actual, what=f"kernel and our reference, {case}")
    assert_close(actual.transpose(0, 3, 1, 2), theirs, what=f"kernel and onnxruntime's pool, {case}")
    if in_onnx_reference(attributes, shape[1:3]):
        reference = run_reference(onnx_model(op, attributes), planes)
        assert_close(actual.transpose(0, 3, 1, 2), reference, what=f"kernel and ONNX's reference, {case}")
    if op == "MaxPool":
        assert np.isin(actual, x).all()


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_results_do_not_depend_on_threads(op: str) -> None:
    x = np.random.default_rng(1).standard_normal((3, 41, 37, 70)).astype(np.float32)
    pool = pool_model(op, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})
    np.testing.assert_array_equal(run_kernels(pool, x), run_kernels(pool, x, threads=4))


def test_an_empty_batch_gives_an_empty_output() -> None:
    result = run_kernels(pool_model("MaxPool", {"kernel_shape": [2, 2]}), np.zeros((0, 5, 5, 3), np.float32))
    assert result.shape == (0, 4, 4, 3)


def test_shapes_are_inferred_at_load() -> None:
    attributes = {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}
    static = make_session(pool_model("MaxPool", attributes, [2, 8, 9, 5])).get_outputs()[0].shape
    assert static == [2, 4, 5, 5]
    dynamic = make_session(pool_model("MaxPool", attributes)).get_outputs()[0].shape
    assert dynamic[0] == "N" and dynamic[3] == "C"
    assert len({*dynamic, "H", "W"}) == 6, "extents of unknown sizes must not be taken for others"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"kernel_shape": None}, "kernel_shape is missing"),
        ({"kernel_shape": [2]}, "kernel_shape has 1 values"),
        ({"kernel_shape": [2, 0]}, "kernel_shape is 0"),
        ({"strides": [0, 1]}, "strides is 0"),
        ({"pads": [0, 2, 0, 0]}, "pads must be smaller than the kernel"),
        ({"pads": [0, -1, 0, 0]}, "pads is -1"),
        ({"auto_pad": "SAME"}, "auto_pad is 'SAME'"),
        ({"ceil_mode": 1, "count_include_pad": 1}, "count_include_pad with ceil_mode"),
    ],
)
def test_a_wrong_attribute_is_named_when_the_session_is_made(attributes: Attributes, message: str) -> None:
    given = {"kernel_shape": [2, 2]} | attributes
    with pytest.raises(Exception, match=message):
        make_session(pool_model("AveragePool", {name: value for name, value in given.items() if value is not None}))


def test_an_input_without_a_window_is_named() -> None:
    pool = pool_model("MaxPool", {"kernel_shape": [4, 2]})
    with pytest.raises(Exception, match=r"input height 3 .* spans 4"):
        run_kernels(pool, np.zeros((1, 3, 5, 2), np.float32))
    with pytest.raises(Exception, match=r"X has shape \[3x5x2\], needs rank 4"):
        run_kernels(model("MaxPool", {"kernel_shape": [1, 1]}, [3, 5, 2], DOMAIN), np.zeros((3, 5, 2), np.float32))
