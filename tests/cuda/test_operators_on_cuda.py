"""The CUDA kernels on a GPU against the reference, over the same geometries and settings as on the CPU."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from reuse_compiler.reference.operators import cluster_vectors, hash_vectors
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import ConvSpec, DataOrder, Layout
from tests.comparison import assert_close
from tests.cuda.running import cuda_session, rounded, run_cuda
from tests.custom_ops.cases import Case, cases, static_cases
from tests.running import run_kernels, run_reference
from tools.gpu_check.models import in_half

quick = settings.get_profile("cuda")
HALF = 4e-3
"""Relative to the largest output: what rounding operands and table entries to 11 bits may change."""
TF32_VARIABLE = "REUSE_CUDA_TF32"
LONG = Case(ConvSpec(2, 128, 14, 14, 64, (3, 3), pads=(1, 1, 1, 1)), "channel", 32, "sign", 6, seed=3)
"""Sums of K = 1152 random products, of which next to none comes out the same if its operands are rounded."""


@quick
@given(case=cases())
def test_fused_and_staged_equal_the_reference(case: Case) -> None:
    note(repr(case))
    x = case.data()[0]
    reference = run_reference(case.model("fused"), x)
    assert_close(run_cuda(case.model("fused"), x), reference, what=f"fused, {case}")
    assert_close(run_cuda(case.model("staged"), x), reference, what=f"staged, {case}")


@quick
@given(case=cases())
def test_tf32_is_near_the_reference(case: Case) -> None:
    x = case.data()[0]
    reference = run_reference(case.model("fused"), x)
    assert_close(run_cuda(case.model("fused"), x, tf32=True), reference, rtol=HALF, what=f"TF32, {case}")


@quick
@given(case=static_cases(most_hashes=6), tf32=st.booleans())
def test_static_has_the_bits_of_the_reference(case: Case, tf32: bool) -> None:
    note(repr(case))
    x = case.data()[0]
    np.testing.assert_array_equal(run_cuda(case.model("fused"), x, tf32=tf32), run_reference(case.model("fused"), x))
    staged = case.model("staged")
    assert_close(run_cuda(staged, x), run_reference(staged, x), what=f"staged, {case}")


@quick
@given(case=static_cases(most_hashes=6))
def test_static_in_half_is_near_the_reference(case: Case) -> None:
    x = case.data()[0].astype(np.float16)
    reference = run_reference(rounded(case.model("fused")), x.astype(np.float32))
    actual = run_cuda(in_half(case.model("fused")), x).astype(np.float32)
    assert_close(actual, reference, rtol=HALF, what=f"float16, {case}")


@pytest.mark.parametrize("lowering", ["fused", "staged"])
@pytest.mark.parametrize("layout", ["patch", "channel"])
def test_tf32_is_what_the_providers_option_says(layout: Layout, lowering: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the option does not arrive, TF32 is off in silence, and all that is near the reference passes."""
    monkeypatch.delenv(TF32_VARIABLE, raising=False)
    case = replace(LONG, layout=layout)
    model, x = case.model(lowering), case.data()[0]
    strict, tf32 = run_cuda(model, x), run_cuda(model, x, tf32=True)
    reference = run_kernels(model, x)
    assert_close(strict, reference, what=f"strict {lowering}, {case}")
    assert_close(tf32, reference, rtol=HALF, what=f"TF32 {lowering}, {case}")
    assert np.mean(strict != tf32) > 0.9, "TF32 rounds nothing"


@pytest.mark.parametrize("tf32", [False, True])
def test_the_environment_overrides_the_providers_option(tf32: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = LONG.model("fused"), LONG.data()[0]
    monkeypatch.delenv(TF32_VARIABLE, raising=False)
    expected = run_cuda(model, x, tf32=tf32)
    monkeypatch.setenv(TF32_VARIABLE, str(int(tf32)))
    np.testing.assert_array_equal(run_cuda(model, x, tf32=not tf32), expected)


@quick
@given(case=cases(), lowering=st.sampled_from(["fused", "staged"]))
def test_half_is_near_the_reference(case: Case, lowering: str) -> None:
    x = case.data()[0].astype(np.float16)
    reference = run_reference(rounded(case.model("fused")), x.astype(np.float32))
    actual = run_cuda(in_half(case.model(lowering)), x)
    assert actual.dtype == np.float16
    assert_close(actual.astype(np.float32), reference, rtol=HALF, what=f"float16 {lowering}, {case}")


@quick
@given(case=cases(), order=st.sampled_from(["nchw", "nhwc"]))
def test_orders_of_data_change_no_bit(case: Case, order: DataOrder) -> None:
    x = case.data()[0]
    expected = run_cuda(case.model("fused"), x)
    input_order: DataOrder = order if case.layout == "channel" else "nchw"
    other = replace(case, input_order=input_order, output_order="nhwc").model("fused")
    own = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if input_order == "nhwc" else x
    np.testing.assert_array_equal(run_cuda(other, own).transpose(0, 3, 1, 2), expected, err_msg=repr(case))


@settings(quick, max_examples=20)
@given(case=cases(families=("sign", "learned", "exact")))
def test_runs_repeat_bit_by_bit(case: Case) -> None:
    session, x = cuda_session(case.model("fused")), case.data()[0]
    first = session.run(None, {"X": x})[0]
    for _ in range(5):
        np.testing.assert_array_equal(session.run(None, {"X": x})[0], first, err_msg=repr(case))


@pytest.mark.parametrize("layout", ["patch", "channel"])
@pytest.mark.parametrize("family", FAMILIES)
def test_many_blocks_of_threads(family: str, layout: Any) -> None:
    """A layer that keeps the whole GPU busy, so that blocks race for the slots of the table of codes."""
    spec = ConvSpec(8, 64, 56, 56, 150, (3, 3), pads=(1, 1, 1, 1))
    case = Case(spec, layout, 32, family, 9, seed=2, distinct=0 if family != "exact" else 300)
    x = case.data()[0]
    expected = run_kernels(case.model("fused"), x, threads=os.cpu_count() or 1)
    session = cuda_session(case.model("fused"))
    first = session.run(None, {"X": x})[0]
    error = np.linalg.norm(first - expected) / np.linalg.norm(expected)
    assert error < 1e-5
    for _ in range(10):
        np.testing.assert_array_equal(session.run(None, {"X": x})[0], first)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("tf32", [False, True])
def test_values_that_are_not_finite_stay_where_they_are(value: float, tf32: bool) -> None:
    spec = ConvSpec(2, 16, 9, 9, 24, (3, 3), pads=(1, 1, 1, 1))
    case = Case(spec, "channel", 8, "sign", 6)
    x = case.data()[0]
    x[0, 2, 4, 4] = value
    expected = run_kernels(case.model("fused"), x)
    actual = run_cuda(case.model("fused"), x, tf32=tf32)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(actual[finite], expected[finite], rtol=1e-2, atol=1e-2)


def test_an_empty_batch() -> None:
    case = Case(ConvSpec(1, 8, 9, 9, 24, (3, 3)), "channel", 8, "sign", 6)
    assert run_cuda(case.model("fused"), np.zeros((0, 8, 9, 9), np.float32)).shape == (0, 24, 7, 7)


@settings(quick, max_examples=30)
@given(case=cases())
def test_the_reference_on_cupy_agrees(case: Case) -> None:
    cupy = pytest.importorskip("cupy", reason="the reference on a GPU needs CuPy: pip install cupy-cuda13x")
    x, parameters = case.data()[0], case.parameters()
    moved = type(parameters)(**{name: None if v is None else cupy.asarray(v) for name, v in parameters.items()})
    codes = hash_vectors(cupy.asarray(x), case.blocking, case.family, moved)
    np.testing.assert_array_equal(cupy.asnumpy(codes), hash_vectors(x, case.blocking, case.family, parameters))
    verify = FAMILIES[case.family].lossless
    settings_: Any = (case.blocking, case.scope, case.capacity, case.metric, verify)
    on_gpu, on_cpu = cluster_vectors(cupy.asarray(x), codes, *settings_), cluster_vectors(x, codes.get(), *settings_)
    np.testing.assert_array_equal(cupy.asnumpy(on_gpu.ids), on_cpu.ids)
