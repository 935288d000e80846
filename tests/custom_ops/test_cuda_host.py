"""The CUDA kernels, run on the host, against the reference, over all geometries and settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from reuse_compiler.reuse.geometry import ConvSpec, DataOrder
from tests.comparison import assert_close
from tests.custom_ops import cuda_host
from tests.custom_ops.cases import Case, cases, static_cases
from tests.running import run_kernels, run_reference

quick = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
HALF = 4e-3
"""Relative to the largest output: what rounding operands and table entries to 11 bits may change."""


@quick
@given(case=cases(), order=st.sampled_from(cuda_host.ORDERS), path=st.sampled_from(cuda_host.PATHS))
def test_fused_and_staged_equal_the_reference(case: Case, order: Any, path: Any) -> None:
    note(repr(case))
    reference = run_reference(case.model("fused"), case.data()[0])
    for lowering in ("fused", "staged"):
        actual = cuda_host.run(case, lowering, "strict", order, path=path)
        assert_close(actual, reference, what=f"{lowering} against reference, {case}")


# Always the same cases: where products cancel out, rounding is large against the outputs, whatever computes them.
@settings(quick, derandomize=True)
@given(case=cases(), lowering=st.sampled_from(["fused", "staged"]))
def test_tf32_is_near_the_reference(case: Case, lowering: str) -> None:
    reference = run_reference(case.model("fused"), case.data()[0])
    assert_close(cuda_host.run(case, lowering, "tf32"), reference, rtol=HALF, what=f"TF32 {lowering}, {case}")


@settings(quick, max_examples=60)
@given(case=static_cases(most_hashes=6), order=st.sampled_from(cuda_host.ORDERS))
def test_static_has_the_bits_of_the_reference(case: Case, order: Any) -> None:
    note(repr(case))
    reference = run_reference(case.model("fused"), case.data()[0])
    np.testing.assert_array_equal(cuda_host.run(case, order=order), reference)
    # The staged form has float tables, and adds the rows of vectors that are not finite like others.
    reference = run_reference(case.model("staged"), case.data()[0])
    assert_close(cuda_host.run(case, "staged", order=order), reference, what=f"staged, {case}")


@quick
@given(case=cases(), order=st.sampled_from(["nchw", "nhwc"]))
def test_orders_of_data_are_the_references(case: Case, order: DataOrder) -> None:
    case = replace(case, input_order=order if case.layout == "channel" else "nchw", output_order="nhwc")
    x = case.data()[0]
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if case.input_order == "nhwc" else x
    assert_close(cuda_host.run(case, x=x), run_reference(case.model("fused"), x), what=f"orders, {case}")


@settings(quick, max_examples=60)
@given(case=cases(families=("exact",)))
def test_lossless_where_every_vector_may_have_its_cluster(case: Case) -> None:
    dense = run_kernels(case.model("dense"), case.data()[0])
    assert_close(cuda_host.run(case), dense, what=f"exact against Conv, {case}")


@pytest.mark.parametrize("layout", ["patch", "channel"])
@pytest.mark.parametrize("mode", ["strict", "tf32", "half"])
def test_many_channels_and_clusters(mode: cuda_host.Mode, layout: Any) -> None:
    """More of everything than one tile of a kernel has; float16 data are compared within what they can hold."""
    spec = ConvSpec(2, 48, 15, 17, 150, (5, 5), pads=(2, 2, 1, 1))
    case = Case(spec, layout, 20, "learned", 9, seed=4)
    reference = run_reference(case.model("fused"), case.data()[0])
    error = np.linalg.norm(cuda_host.run(case, mode=mode) - reference) / np.linalg.norm(reference)
    # Codes of inputs rounded to float16 differ for the few vectors that lie on a threshold.
    assert error < {"strict": 1e-6, "tf32": 1e-3, "half": 0.05}[mode]


@pytest.mark.parametrize("mode", ["strict", "tf32", "half"])
@pytest.mark.parametrize(
    ("channels", "kernel", "length", "outputs"),
    [
        (40, 3, 40, 20),  # slices of 16 and 32 elements, the last half full; rows of 16 bytes
        (33, 3, 33, 9),  # one element more than two slices or one; rows of no whole 16 bytes
        (44, 1, 4, 64),  # 11 terms, one part of the gather; a full tile of channels
        (39, 1, 3, 70),  # 13 terms, one more than a part; a tile and a rest
        (8, 5, 2, 12),  # 100 terms
    ],
)
def test_edges_of_slices_and_parts(channels: int, kernel: int, length: int, outputs: int, mode: cuda_host.Mode) -> None:
    """Products go through the depth in slices, outputs are summed in parts; data are few enough for float16."""
    spec = ConvSpec(1, channels, 9, 10, outputs, (kernel, kernel), pads=(kernel // 2,) * 4)
    case = Case(spec, "channel", length, "exact", 1, seed=kernel)
    x = np.round(4.0 * case.data()[0]) / 4.0
    reference = run_reference(case.model("fused"), x)
    for lowering in ("fused", "staged"):
        error = np.linalg.norm(cuda_host.run(case, lowering, mode, x=x) - reference) / np.linalg.norm(reference)
        assert error < {"strict": 1e-6, "tf32": 1e-3, "half": 2e-3}[mode]


def test_few_rows_of_memory_guard_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters beyond the memory of tables are computed densely: the result moves towards the dense one.

    Tiles of output channels are then computed one after the other, and not together.
    """
    spec = ConvSpec(2, 32, 30, 31, 150, (3, 3), pads=(1, 1, 1, 1))
    case = Case(spec, "channel", 32, "sign", 16, seed=1)
    x = case.data()[0]
    dense, shared = run_kernels(case.model("dense"), x), cuda_host.run(case)
    monkeypatch.setenv("REUSE_CUDA_TABLE_MIB", "1")
    guarded = cuda_host.run(case)
    errors = [np.linalg.norm(y - dense) / np.linalg.norm(dense) for y in (shared, guarded)]
    assert 0 < errors[1] < 0.7 * errors[0]
    assert_close(shared, run_reference(case.model("fused"), x), what="with memory for all")
