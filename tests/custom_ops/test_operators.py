"""The kernels against the reference and against ONNX's Conv, over all geometries and settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from reuse_compiler.reference.operators import block_bounds, cluster_vectors, hash_vectors
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import ConvSpec, DataOrder
from reuse_compiler.reuse.int8_tables import LARGEST_INT8_ENTRY
from tests.comparison import assert_close
from tests.custom_ops.cases import Case, cases
from tests.running import run_kernels, run_reference

quick = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(case=cases())
def test_fused_equals_staged_equals_reference(case: Case) -> None:
    note(repr(case))
    x = case.data()[0]
    fused = run_kernels(case.model("fused"), x)
    staged = run_kernels(case.model("staged"), x)
    reference = run_reference(case.model("fused"), x)
    assert_close(fused, reference, what=f"fused against reference, {case}")
    assert_close(staged, reference, what=f"staged against reference, {case}")


@quick
@given(case=cases(), table=st.sampled_from(["float", "int8"]), input_too=st.booleans())
def test_orders_of_data_change_no_bit(case: Case, table: str, input_too: bool) -> None:
    case = replace(case, table=table)
    x = case.data()[0]
    expected = run_kernels(case.model("fused"), x)
    input_order: DataOrder = "nhwc" if input_too and case.layout == "channel" else "nchw"
    other = replace(case, input_order=input_order, output_order="nhwc").model("fused")
    own = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if input_order == "nhwc" else x
    actual = run_kernels(other, own)
    np.testing.assert_array_equal(actual.transpose(0, 3, 1, 2), expected, err_msg=repr(case))
    if table == "float":
        assert_close(actual, run_reference(other, own), what=f"pixel-major against reference, {case}")


def int8_step(case: Case) -> float:
    """Returns the largest scale of the case's int8 tables: what an entry changes by if it is rounded the other way."""
    x, w, _ = case.data()
    verify = FAMILIES[case.family].lossless
    codes = hash_vectors(x, case.blocking, case.family, case.parameters())
    clusters = cluster_vectors(x, codes, case.blocking, case.scope, case.capacity, case.metric, verify)  # type: ignore[arg-type]
    return float(block_bounds(clusters.centroids, w, case.blocking).max()) / LARGEST_INT8_ENTRY


@quick
@given(case=cases(table="int8"))
def test_int8_tables_equal_the_reference(case: Case) -> None:
    """But for single entries that lie between two integers and are rounded the other way."""
    x = case.data()[0]
    actual, expected = run_kernels(case.model("fused"), x), run_reference(case.model("fused"), x)
    assert_close(actual, expected, atol=2 * int8_step(case), what=f"int8 against reference, {case}")


@pytest.mark.parametrize("layout", ["patch", "channel"])
@pytest.mark.parametrize("channels", [20, 64, 150])
def test_int8_tables_differ_from_the_reference_hardly_anywhere(channels: int, layout: str) -> None:
    """Several sets of blocks that share scales, and tiles of channels; nearly all outputs agree to float32."""
    kernel = (5, 5) if layout == "channel" else (4, 4)
    spec = ConvSpec(2, 48, 15, 17, channels, kernel, pads=(2, 2, 1, 1))
    length = 3 if layout == "channel" else 2
    case = Case(spec, layout, length, "learned", 3, seed=4, table="int8")  # type: ignore[arg-type]
    x = case.data()[0]
    actual, expected = run_kernels(case.model("fused"), x), run_reference(case.model("fused"), x)
    near = np.abs(actual - expected) <= 1e-5 * np.abs(expected).max()
    assert near.mean() > 0.99
    exact = run_kernels(replace(case, table="float").model("fused"), x)
    error = np.linalg.norm(actual - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.05
    many = run_kernels(case.model("fused"), x, threads=4)
    np.testing.assert_array_equal(actual, many, err_msg="int8 with 1 and 4 threads")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_int8_tables_give_way_to_float_where_scales_are_not_finite(value: float) -> None:
    spec = ConvSpec(1, 8, 9, 9, 24, (3, 3), pads=(1, 1, 1, 1))
    case = Case(spec, "channel", 4, "sign", 6, table="int8")
    x = case.data()[0]
    x[0, 2, 4, 4] = value
    model = case.model("fused")
    with np.errstate(all="ignore"):
        expected = run_reference(model, x)
    np.testing.assert_array_equal(
        run_kernels(model, x), run_kernels(replace(case, table="float").model("fused"), x), err_msg="float tables"
    )
    finite = np.isfinite(expected)
    assert 0 < (~finite).sum() < finite.size
    np.testing.assert_allclose(run_kernels(model, x)[finite], expected[finite], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layout", ["patch", "channel"])
@pytest.mark.parametrize("opposite", [False, True])
def test_products_that_overflow_are_infinite_with_int8_tables_too(layout: str, opposite: bool) -> None:
    """The scale of such a table would be finite, but an infinity or a NaN has no byte."""
    spec = ConvSpec(1, 4, 6, 7, 20, (3, 3), pads=(1, 1, 1, 1))
    case = Case(spec, layout, 4, "exact", 1, table="int8")  # type: ignore[arg-type]
    x = np.abs(case.data()[0])
    x[0, :, 2, 3] = 1e38
    model = case.model("fused")
    weights = next(each for each in model.graph.initializer if each.name == "W")
    w = np.full(spec.weight_shape, 2.0, np.float32)
    if opposite:  # infinities of both signs may meet
        w[:, ::2] = -3.0
    weights.CopyFrom(numpy_helper.from_array(w, "W"))
    expected = type(model).FromString(model.SerializeToString())
    table = next(each for each in expected.graph.node[0].attribute if each.name == "table")
    table.s = b"float"
    y = run_kernels(model, x)
    assert 0 < (~np.isfinite(y)).sum() < y.size
    np.testing.assert_array_equal(y, run_kernels(expected, x))
    with np.errstate(all="ignore"):
        reference = run_reference(model, x)
    np.testing.assert_array_equal(np.isfinite(reference), np.isfinite(y))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("table", ["float", "int8"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_an_image_without_pixels_gives_the_bias(size: tuple[int, int], table: str, family: str) -> None:
    spec = ConvSpec(2, 8, *size, 6, (3, 3), pads=(2, 2, 2, 1))
    case = Case(spec, "channel", 4, family, 3, table=table)
    x, _, bias = case.data()
    expected = np.broadcast_to(bias[:, None, None], (2, 6, spec.out_height, spec.out_width))
    for lowering in ("fused", "staged"):
        np.testing.assert_array_equal(run_kernels(case.model(lowering), x), expected, err_msg=lowering)


@quick
@given(case=cases(families=("exact",)))
def test_lossless_where_every_vector_may_have_its_cluster(case: Case) -> None:
    x = case.data()[0]
    dense = run_kernels(case.model("dense"), x)
    assert_close(run_kernels(case.model("fused"), x), dense, what=f"exact against Conv, {case}")


@settings(quick, max_examples=60)
@given(case=cases(families=("sign", "learned")))
def test_equals_conv_where_vectors_repeat(case: Case) -> None:
    """One distinct pixel: in the channel layout all members of a cluster are equal, so nothing may be lost."""
    case = replace(case, layout="channel", distinct=1, sub_vector_length=case.spec.group_in_channels)
    x = case.data()[0]
    dense = run_kernels(case.model("dense"), x)
    assert_close(run_kernels(case.model("fused"), x), dense, what=f"repeated vectors against Conv, {case}")


@pytest.mark.parametrize("lowering", ["fused", "staged"])
def test_reuse_is_not_trivial(lowering: str) -> None:
    """A case that merges some vectors but not all: the output is near the dense one but not equal to it."""
    spec = ConvSpec(2, 8, 14, 14, 24, (3, 3), pads=(1, 1, 1, 1))
    case = Case(spec, "channel", 8, "sign", 6, seed=3)
    x = case.data()[0]
    result, dense = run_kernels(case.model(lowering), x), run_kernels(case.model("dense"), x)
    assert_close(result, run_reference(case.model(lowering), x), what=lowering)
    error = np.linalg.norm(result - dense) / np.linalg.norm(dense)
    assert 0.05 < error < 1.0


@pytest.mark.parametrize("layout", ["patch", "channel"])
@pytest.mark.parametrize("family", ["sign", "learned", "exact"])
def test_results_do_not_depend_on_threads(family: str, layout: str) -> None:
    spec = ConvSpec(2, 32, 20, 21, 70, (3, 3), pads=(1, 1, 1, 1))
    case = Case(spec, layout, 16, family, 8, seed=5)  # type: ignore[arg-type]
    x = case.data()[0]
    for lowering in ("fused", "staged"):
        one, many = (run_kernels(case.model(lowering), x, threads=n) for n in (1, 4))
        np.testing.assert_array_equal(one, many, err_msg=f"{lowering} with 1 and 4 threads")
