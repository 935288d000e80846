"""Operator Hold: the kernel against the reference over histories, and both against what a user expects."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

import reuse_compiler
from reuse_compiler.reference import REFERENCE_OPS
from reuse_compiler.reference.op_run import DOMAIN
from tests.running import Array, make_session

Attributes = dict[str, Any]


def hold_model(attributes: Attributes, dtype: Any = np.float32, shape: Any = (None,) * 4) -> onnx.ModelProto:
    node = helper.make_node("Hold", ["X"], ["Y"], "hold", domain=DOMAIN, **attributes)
    x = helper.make_tensor_value_info("X", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
    graph = helper.make_graph([node], "g", [x], [onnx.ValueInfoProto(name="Y")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Attributes, list[Array]]:
    """Attributes, and inputs of which some are like the one before, and others of another shape."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axis, dtype = draw(st.sampled_from([1, 3])), draw(st.sampled_from([np.float32, np.uint8]))
    channels = draw(st.integers(1, 4))
    attributes: Attributes = {
        "tolerances": [float(rng.integers(0, 60)) / 2 for _ in range(draw(st.sampled_from([1, channels])))],
        "opening": draw(st.integers(0, 3)),
        "dilation": draw(st.integers(0, 9)),
        "patience": draw(st.integers(0, 3)),
        "axis": axis,
    }
    if draw(st.booleans()):
        attributes["memory"] = int(rng.integers(0, 4000))

    def images() -> Array:
        shape = [int(size) for size in rng.integers(1, 12, 4)]
        shape[0], shape[axis] = int(rng.integers(0, 4)), channels
        return (256 * rng.random(shape)).astype(dtype)

    xs = [images()]
    for _ in range(draw(st.integers(1, 7))):
        x = xs[-1]
        if draw(st.integers(0, 5)) == 0:
            x = images()
        elif x.size:
            region = np.zeros(x.shape, bool)
            rows, columns = (slice(*sorted(rng.integers(0, 13, 2))) for _ in range(2))
            region[(slice(None), slice(None), rows, columns) if axis == 1 else (slice(None), rows, columns)] = True
            x = np.where(region, 256 * rng.random(x.shape), np.clip(x + 4 * rng.standard_normal(x.shape), 0, 255))
            if dtype == np.float32 and draw(st.booleans()):
                x[tuple(rng.integers(0, x.shape))] = rng.choice([np.nan, np.inf, -np.inf, 3e38])
            x = x.astype(dtype)
        xs.append(x)
    return attributes, xs


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=histories(), threads=st.integers(1, 3))
def test_histories_are_those_of_the_reference(history: tuple[Attributes, list[Array]], threads: int) -> None:
    attributes, xs = history
    note(str((attributes, [x.shape for x in xs])))
    model = hold_model(attributes, xs[0].dtype)
    session, reference = make_session(model, threads), ReferenceEvaluator(model, new_ops=REFERENCE_OPS)
    for index, x in enumerate(xs):
        (expected,) = reference.run(None, {"X": x})
        np.testing.assert_array_equal(session.run(None, {"X": x})[0], expected, err_msg=f"run {index}")


def test_noise_is_held_and_what_moves_is_not() -> None:
    rng = np.random.default_rng(0)
    still = rng.uniform(0, 255, (1, 3, 40, 50)).astype(np.float32)
    session = reuse_compiler.session(
        hold_model({"tolerances": [12.0], "opening": 1, "dilation": 2}).SerializeToString()
    )
    for frame in range(5):
        x = still + rng.uniform(-5, 5, still.shape).astype(np.float32)
        x[..., 5, 7] += 100  # a lone pixel is noise
        x[..., 20:30, 4 * frame : 4 * frame + 8] = 400
        (y,) = session.run(None, {"X": x})
        np.testing.assert_array_equal(y[..., 20:30, 4 * frame : 4 * frame + 8], 400)
        if frame == 0:
            first = x
    np.testing.assert_array_equal(y[..., :18, :], first[..., :18, :])
    (node,) = reuse_compiler.statistics(session)
    assert (node.op, node.runs, node.anew, node.vectors, node.remaining_ratio) == ("Hold", 5, 1, 5 * 2000, None)
    assert 4 * 80 < node.changed < 4 * 400 and node.state_bytes == 4 * still.size and node.seconds.hash > 0


def test_a_reset_forgets_what_is_held() -> None:
    session = reuse_compiler.session(hold_model({"tolerances": [1.0]}).SerializeToString())
    a, b = np.zeros((1, 3, 4, 5), np.float32), np.full((1, 3, 4, 5), 0.5, np.float32)
    session.run(None, {"X": a})
    np.testing.assert_array_equal(session.run(None, {"X": b})[0], a)
    reuse_compiler.reset_clusters(session)
    assert reuse_compiler.statistics(session)[0].state_bytes == 0
    np.testing.assert_array_equal(session.run(None, {"X": b})[0], b)


def test_runs_at_the_same_time_are_within_the_tolerance() -> None:
    session = make_session(hold_model({"tolerances": [0.25], "opening": 1, "dilation": 1}), 2)
    inputs = [np.full((1, 3, 40, 50), value / 32, np.float32) for value in np.random.default_rng(1).integers(0, 64, 40)]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda x: session.run(None, {"X": x})[0], inputs))
    for x, y in zip(inputs, results, strict=True):
        assert np.abs(x - y).max() <= 0.25


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_types_and_shapes_are_inferred_at_load(dtype: Any) -> None:
    session = make_session(hold_model({"tolerances": [1.0]}, dtype, ["N", 3, "H", 20]))
    (output,) = session.get_outputs()
    assert output.shape == ["N", 3, "H", 20] and output.type == session.get_inputs()[0].type


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "attribute tolerances is missing"),
        ({"tolerances": [-1.0]}, "tolerances has -1.0*, must be at least 0"),
        ({"tolerances": [1.0], "opening": 65}, "opening is 65, must be 0 to 64"),
        ({"tolerances": [1.0], "dilation": -1}, "dilation is -1, must be 0 to 64"),
        ({"tolerances": [1.0], "patience": -1}, "patience is -1, must be at least 0"),
        ({"tolerances": [1.0], "axis": 2}, "axis is 2, must be 1 or 3"),
        ({"tolerances": [1.0], "memory": -1}, "memory is -1, must be at least 0"),
    ],
)
def test_a_wrong_attribute_is_named_when_the_session_is_made(attributes: Attributes, message: str) -> None:
    with pytest.raises(Exception, match=f"Hold 'hold': {message}"):
        make_session(hold_model(attributes))


def test_other_shapes_are_named() -> None:
    session = make_session(hold_model({"tolerances": [1.0, 2.0]}, shape=None))
    with pytest.raises(Exception, match=r"X has shape \[3x5\], needs rank 4"):
        session.run(None, {"X": np.zeros((3, 5), np.float32)})
    with pytest.raises(Exception, match="X has 3 channels, but there are 2 tolerances"):
        session.run(None, {"X": np.zeros((1, 3, 5, 5), np.float32)})
