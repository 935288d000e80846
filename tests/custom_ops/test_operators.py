"""The kernels against the reference and against ONNX's Conv, over all geometries and settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings

from reuse_compiler.reuse.geometry import ConvGeometry
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
@given(case=cases(families=("exact",)))
def test_lossless_where_every_vector_may_have_its_cluster(case: Case) -> None:
    x = case.data()[0]
    dense = run_kernels(case.model("dense"), x)
    assert_close(run_kernels(case.model("fused"), x), dense, what=f"exact against Conv, {case}")


@settings(quick, max_examples=60)
@given(case=cases(families=("sign", "pstable", "learned")))
def test_equals_conv_where_vectors_repeat(case: Case) -> None:
    """One distinct pixel: in the channel layout all members of a cluster are equal, so nothing may be lost."""
    case = replace(case, layout="channel", distinct=1, sub_vector_length=case.geometry.group_in_channels)
    x = case.data()[0]
    dense = run_kernels(case.model("dense"), x)
    assert_close(run_kernels(case.model("fused"), x), dense, what=f"repeated vectors against Conv, {case}")


@pytest.mark.parametrize("lowering", ["fused", "staged"])
def test_reuse_is_not_trivial(lowering: str) -> None:
    """A case that merges some vectors but not all: the output is near the dense one but not equal to it."""
    geometry = ConvGeometry(2, 8, 14, 14, 24, (3, 3), pads=(1, 1, 1, 1))
    case = Case(geometry, "channel", 8, "sign", 6, seed=3)
    x = case.data()[0]
    result, dense = run_kernels(case.model(lowering), x), run_kernels(case.model("dense"), x)
    assert_close(result, run_reference(case.model(lowering), x), what=lowering)
    error = np.linalg.norm(result - dense) / np.linalg.norm(dense)
    assert 0.05 < error < 1.0


@pytest.mark.parametrize("layout", ["patch", "channel"])
@pytest.mark.parametrize("family", ["sign", "learned", "exact"])
def test_results_do_not_depend_on_threads(family: str, layout: str) -> None:
    geometry = ConvGeometry(2, 32, 20, 21, 70, (3, 3), pads=(1, 1, 1, 1))
    case = Case(geometry, layout, 16, family, 8, seed=5)  # type: ignore[arg-type]
    x = case.data()[0]
    for lowering in ("fused", "staged"):
        one, many = (run_kernels(case.model(lowering), x, threads=n) for n in (1, 4))
        np.testing.assert_array_equal(one, many, err_msg=f"{lowering} with 1 and 4 threads")
