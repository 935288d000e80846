"""Measuring a convolution of bytes: the real operators on small layers. No time is asserted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reuse_compiler.benchmark.inputs import BYTE_STEP, BYTE_ZERO_POINT, LayerInput, build_input
from reuse_compiler.benchmark.quantised_conv import measure_quantised
from reuse_compiler.errors import ConfigError, VerificationError
from tests.benchmark.conftest import MakeCase
from tests.custom_ops.quantised_cases import runtime_saturates

pytestmark = pytest.mark.skipif(runtime_saturates(), reason="onnxruntime's QLinearConv cuts sums off on this processor")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"family": "sign", "num_hashes": 12},
        {"sub_vector_length": 5, "layout": "channel"},
        {"weight_shape": (8, 8, 3, 2), "group": 2, "strides": (2, 1), "dilations": (1, 2)},
        {"remaining_ratio": 0.8},
    ],
)
def test_static_centroids_leave_the_error_of_the_tables(small_case: MakeCase, changes: dict[str, Any]) -> None:
    case = small_case(scope="static", **changes)
    report = measure_quantised(case, 1, 1)
    assert (report.setting.scope, report.setting.table, report.setting.family) == ("static", "int8", case.family)
    assert report.clusters_per_block == case.distinct and report.r_c == case.distinct / case.spec.rows
    assert 0.001 < report.fused.relative_error < 0.04
    assert report.fused.stages_ms.hash > 0.0 and report.fused.stages_ms.gather > 0.0
    assert report.fused.stages_ms.gemm == 0.0, "tables are there before the run"
    assert report.dense.gflops == pytest.approx(2e-6 * case.spec.multiply_adds / report.dense.median_ms)
    assert report.predicted_speedup is not None and len(report.notes) == 1


def test_bits_that_are_too_few_are_told(small_case: MakeCase) -> None:
    report = measure_quantised(small_case(scope="static", num_hashes=3), 1, 1)
    assert report.clusters_per_block == 8 and report.fused.relative_error > 0.1
    assert report.notes[1].startswith("3 bits tell at most 8 vectors apart")


LARGE = {"input_shape": (1, 16, 80, 80), "weight_shape": (8, 16, 3, 3)}


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": "patch", "sub_vector_length": 16},
        {**LARGE, "sub_vector_length": 16, "remaining_ratio": 0.95, "order": "random"},
        {**LARGE, "sub_vector_length": 16, "remaining_ratio": 0.3},
        {**LARGE, "sub_vector_length": 8, "remaining_ratio": 0.3, "strides": (2, 2)},
    ],
)
def test_without_a_scope_it_is_lossless(small_case: MakeCase, changes: dict[str, Any]) -> None:
    """Of more than 1,000 vectors, some are not looked for where few were found."""
    report = measure_quantised(small_case(**changes), 1, 1)
    assert (report.setting.family, report.setting.table, report.setting.scope) == ("exact", "int32", "batch")
    assert report.fused.relative_error == 0.0 and report.fused.stages_ms.gemm > 0.0


@pytest.mark.parametrize("family", ["learned", "sign"])
def test_with_bits_clusters_are_of_the_batch(small_case: MakeCase, family: Any) -> None:
    report = measure_quantised(small_case(family=family, num_hashes=12), 1, 1)
    assert (report.setting.family, report.setting.table, report.setting.scope) == (family, "int8", "batch")
    assert 0.001 < report.fused.relative_error < 0.04 and len(report.notes) == 1, "each vector is a centroid"
    assert report.fused.stages_ms.cluster > 0.0 and report.fused.stages_ms.gemm > 0.0
    few = measure_quantised(small_case(family=family, num_hashes=3), 1, 1)
    assert few.clusters_per_block is not None and few.clusters_per_block <= 8 and few.fused.relative_error > 0.1
    assert few.notes[1].startswith("3 bits tell at most 8 vectors apart")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scope": "session"}, "leave --table off, and --scope session"),
        ({"table": "int8"}, "leave --table off, and --scope session"),
        ({"scope": "static", "layout": "patch", "sub_vector_length": 16}, "give an L that divides them"),
        ({"num_hashes": 5, "layout": "patch", "sub_vector_length": 16}, "give an L that divides them"),
    ],
)
def test_what_bytes_do_not_have_is_refused(small_case: MakeCase, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        measure_quantised(small_case(**changes), 1, 1)


def test_centroids_that_are_wrong_are_a_defect(small_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(case: Any) -> LayerInput:
        data = build_input(case)
        assert data.centroids is not None
        return replace(data, centroids=np.ascontiguousarray(data.centroids[:, ::-1]))

    monkeypatch.setattr("reuse_compiler.benchmark.quantised_conv.build_input", wrong)
    with pytest.raises(VerificationError, match="although every vector of the input is a centroid"):
        measure_quantised(small_case(scope="static"), 1, 1)


def test_other_bytes_without_a_scope_are_a_defect(small_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reuse_compiler.benchmark.quantised_conv.Difference.rel_error", 1e-9)
    with pytest.raises(VerificationError, match="has other bytes than QLinearConv"):
        measure_quantised(small_case(), 1, 1)


def test_values_are_those_of_bytes(small_case: MakeCase) -> None:
    case = small_case(scope="static")
    case = replace(case, blocking=replace(case.blocking, spec=replace(case.spec, element="uint8")))
    x = build_input(case).x / np.float32(BYTE_STEP) + BYTE_ZERO_POINT
    assert (x == np.rint(x)).all() and 0 <= x.min() < 20 and 235 < x.max() <= 255
