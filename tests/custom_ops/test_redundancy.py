"""Operator Redundancy: the kernel against the reference, and both against what is known of an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import reuse_compiler
from reuse_compiler.reference import REFERENCE_OPS
from reuse_compiler.reference.op_run import DOMAIN
from reuse_compiler.reference.redundancy import sampled_positions
from tests.running import Array, make_session

Attributes = dict[str, Any]
OUTPUTS = ("enough", "shares")
quick = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


def redundancy_model(attributes: Attributes, shape: Sequence[Any], outputs: Sequence[str] = OUTPUTS) -> onnx.ModelProto:
    node = helper.make_node("Redundancy", ["X"], outputs, "redundancy", domain=DOMAIN, **attributes)
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "g", [x], [onnx.ValueInfoProto(name=name) for name in outputs])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def run(attributes: Attributes, x: Array, threads: int = 1) -> tuple[bool, Array]:
    """Returns `enough` and `shares`, which the kernel and the reference have alike, bit for bit."""
    model = redundancy_model(attributes, x.shape)
    enough, shares = make_session(model, threads).run(None, {"X": x})
    expected, expected_shares = ReferenceEvaluator(model, new_ops=REFERENCE_OPS).run(None, {"X": x})
    assert enough.dtype == np.bool_ and enough.shape == () and enough == expected
    assert shares.dtype == np.float32
    np.testing.assert_array_equal(shares, expected_shares)
    return bool(enough), shares


def shares_of(x: Array, *windows: int, **attributes: Any) -> Array:
    return run({"windows": windows, "gains": [1.0] * len(windows), **attributes}, x)[1]


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Attributes, Array]:
    kinds = draw(st.integers(1, 3))

    def one_each(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=kinds, max_size=kinds))

    attributes: Attributes = {
        "windows": one_each(st.one_of(st.integers(1, 12), st.just(2**30))),
        "gains": one_each(st.floats(-2, 2, width=32)),
        "strides": one_each(st.integers(1, 4)),
        "threshold": draw(st.floats(-1, 1, width=32)),
        "samples": draw(st.integers(1, 300)),
        "channels": draw(st.integers(1, 9)),
    }
    for name in draw(st.sets(st.sampled_from(["strides", "threshold", "samples", "channels"]))):
        del attributes[name]
    rank = draw(st.integers(3, 4))
    shape = [draw(st.integers(0, 4)), draw(st.integers(0, 11)), *(draw(st.integers(0, 25)) for _ in range(rank - 2))]
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = np.array([0.0, -0.0, 1.0, np.nan, np.inf], np.float32)
    often = draw(st.sampled_from([0.01, 0.1, 1.0]))
    x = np.where(rng.random(shape) < often, rng.choice(values, shape), np.float32(1))
    return attributes, x


@quick
@given(problem=problems(), threads=st.sampled_from([1, 3]))
def test_the_kernel_equals_the_reference(problem: tuple[Attributes, Array], threads: int) -> None:
    run(*problem, threads=threads)


@pytest.mark.parametrize("shape", [(1, 3, 60, 60), (3, 20, 33, 21), (2, 4, 500)])
def test_a_constant_repeats_and_noise_does_not(shape: tuple[int, ...]) -> None:
    assert (shares_of(noise(*shape), 1, 2, 5) == 0).all()
    # Windows that hang over the border are of their own, all others are equal.
    assert (shares_of(np.full(shape, 3, np.float32), 1, 2, 5) > 0.75).all()
    # Padding is no different from zeros.
    positions = shape[0] * int(np.prod(shape[2:]))
    assert (shares_of(np.zeros(shape, np.float32), 1, 2, 2**30) == np.float32(1 - 1 / positions)).all()


def test_half_a_constant_repeats_by_half() -> None:
    x = noise(2, 5, 40, 60)
    x[..., :30] = 1
    assert (np.abs(shares_of(x, 1, 3, 5) - 0.5) < 0.1).all()


def test_what_repeats_seldom_is_known_by_how_the_distinct_ones_grow() -> None:
    # Each of 2,000 values stands in about 18 of 36,000 places, so that few of 1,000 samples are equal.
    x = np.random.default_rng(0).integers(0, 2000, (1, 1, 180, 200)).astype(np.float32)
    distinct_in_sample = len(set(x.reshape(-1)[sampled_positions(x.size, 1000)])) / 1000
    assert distinct_in_sample > 0.75
    found = [float(shares_of(x, 1, samples=samples)[0]) for samples in (1000, 4000, 36000)]
    assert 0.5 < found[0] < found[1] < found[2] == np.float32(1 - 2000 / 36000)


def test_images_of_a_batch_are_compared_with_each_other() -> None:
    x = np.concatenate([noise(1, 3, 8, 9)] * 3)
    np.testing.assert_array_equal(shares_of(x, 1, 4), np.float32(2 / 3))


def test_a_window_is_what_the_attributes_say() -> None:
    def position(index: int) -> Array:
        """Returns zeros but for one pixel."""
        x = np.zeros((1, 1, 1, 9), np.float32)
        x[..., index] = 1
        return x

    def distinct(x: Array, window: int, **attributes: Any) -> int:
        share = float(shares_of(x, window, **attributes)[0])
        return round((1 - share) * len(range(0, 9, attributes.get("strides", [1])[0])))

    # So many windows have the pixel in them, in as many places, and there are others.
    assert [distinct(position(4), window) for window in (1, 2, 3, 4, 8)] == [2, 3, 4, 5, 9]
    assert [distinct(position(0), window) for window in (2, 3)] == [3, 3]  # an even one reaches further back
    assert [distinct(position(8), window) for window in (2, 3)] == [2, 3]
    assert [distinct(position(5), window, strides=[2]) for window in (1, 2, 3)] == [1, 2, 3]


def test_channels_are_spread() -> None:
    x = np.zeros((1, 10, 36, 36), np.float32)
    x[:, 5] = noise(36, 36)
    assert shares_of(x, 8, channels=1)[0] > 0.9  # channel 0
    assert shares_of(x, 8, channels=2)[0] == 0  # and channel 5
    assert shares_of(x, 7, channels=1)[0] == 0  # so small a window has a second one
    many = np.zeros((1, 128, 36, 36), np.float32)
    many[:, [1, 2]] = noise(1, 2, 36, 36)
    assert shares_of(many, 1)[0] == 0  # every other one is looked at
    assert shares_of(many[:, [0, *range(2, 128), 1]], 8)[0] > 0.9


@pytest.mark.parametrize(("count", "samples"), [(0, 4), (7, 256), (256, 256), (300, 256), (102400, 256), (10**6, 4096)])
def test_positions_are_taken_once_and_spread(count: int, samples: int) -> None:
    positions = sampled_positions(count, samples)
    assert len(positions) == min(count, samples)
    assert sorted(set(positions)) == positions
    if count > 10 * samples:
        columns = np.array(positions) % 320
        assert np.histogram(columns, 8, (0, 320))[0].min() > 0.8 * samples / 8


def test_enough_is_a_sum_of_gains_beyond_a_threshold() -> None:
    x = np.concatenate([noise(1, 3, 8, 9)] * 2)  # shares are 0.5

    def enough(*gains: float, threshold: float = 0.0) -> bool:
        return run({"windows": [3] * len(gains), "gains": gains, "threshold": threshold}, x)[0]

    assert enough(1.0) and not enough(-1.0) and not enough(0.0)
    assert enough(3.0, -2.0) and not enough(3.0, -2.0, threshold=0.5)
    assert not enough(float("nan")) and enough(float("inf"), threshold=1e30)


def test_shares_may_be_left_off_and_types_are_inferred_at_load() -> None:
    attributes = {"windows": [3, 5], "gains": [1.0, 1.0]}
    alone = make_session(redundancy_model(attributes, ["N", 3, "H", "W"], ["enough"]))
    assert alone.run(None, {"X": np.ones((1, 3, 9, 9), np.float32)}) == [True]
    assert alone.get_outputs()[0].shape == []
    both = make_session(redundancy_model(attributes, ["N", 3, "H", "W"])).get_outputs()
    assert [output.type for output in both] == ["tensor(bool)", "tensor(float)"]


def test_runs_are_counted_and_are_no_clusters() -> None:
    model = redundancy_model({"windows": [3], "gains": [1.0]}, [1, 3, 40, 40])
    session = reuse_compiler.session(model.SerializeToString())
    session.run(None, {"X": noise(1, 3, 40, 40)})
    (counts,) = reuse_compiler.statistics(session)
    assert (counts.node, counts.op, counts.runs, counts.remaining_ratio) == ("redundancy", "Redundancy", 1, None)
    assert counts.seconds.hash > 0 and counts.scratch_bytes > 0


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"windows": None}, "attribute windows is missing"),
        ({"gains": None}, "attribute gains is missing"),
        ({"gains": [1.0]}, "attribute gains has 1 values, needs 2"),
        ({"strides": [1, 1, 1]}, "attribute strides has 3 values, needs 2"),
        ({"windows": [3, 0]}, "windows is 0, must be at least 1"),
        ({"strides": [3, 2**31]}, "strides is 2147483648, must be at most 1073741824"),
        ({"samples": 70000}, "samples is 70000, must be 1 to 65536"),
        ({"channels": 0}, "channels is 0, must be at least 1"),
    ],
)
def test_a_wrong_attribute_is_named_when_the_session_is_made(attributes: Attributes, message: str) -> None:
    given = {"windows": [3, 5], "gains": [1.0, 0.5]} | attributes
    present = {name: value for name, value in given.items() if value is not None}
    with pytest.raises(Exception, match=f"Redundancy 'redundancy': {message}"):
        make_session(redundancy_model(present, ["N", 3, "H", "W"]))


def test_another_rank_is_named() -> None:
    session = make_session(redundancy_model({"windows": [3], "gains": [1.0]}, None))  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"X has shape \[3x5\], needs rank 3 or 4"):
        session.run(None, {"X": np.zeros((3, 5), np.float32)})
