"""Measuring a convolution: the real operators on small layers. No time is asserted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reuse_compiler.benchmark.conv import Circumstances, measure_conv, measure_threads
from reuse_compiler.benchmark.inputs import LayerInput, build_input
from reuse_compiler.benchmark.report import ConvReport
from reuse_compiler.errors import ConfigError, VerificationError
from reuse_compiler.reports.json_file import write_report
from tests.benchmark.conftest import MakeCase

ONCE = Circumstances(repeats=1)


@pytest.mark.parametrize("order", ["local", "random"])
@pytest.mark.parametrize("family", ["learned", "sign", "exact"])
def test_the_remaining_ratio_is_as_asked(small_case: MakeCase, order: str, family: str) -> None:
    report = measure_conv(small_case(order=order, family=family), ONCE)
    assert report.r_c == 29 / 288 and report.clusters_per_block == 29
    assert report.distinct_per_block == [29, 29] and report.notes == []
    assert (report.setting.family, report.setting.order, report.setting.layout) == (family, order, "channel")
    assert report.staged is not None
    assert 0 <= report.fused.relative_error < 1e-5 and 0 <= report.staged.relative_error < 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_shape": (8, 8, 3, 2), "group": 2, "strides": (2, 1), "dilations": (1, 2)},
        {"sub_vector_length": 5, "layout": "channel"},
        {"input_shape": (1, 3, 20, 20), "weight_shape": (8, 3, 3, 3), "sub_vector_length": 27},
        {"layout": "patch", "sub_vector_length": 16, "order": "random"},
    ],
)
def test_other_geometries(small_case: MakeCase, changes: dict[str, Any]) -> None:
    case = small_case(**changes)
    report = measure_conv(case, ONCE)
    mean = sum(report.distinct_per_block) / len(report.distinct_per_block)
    assert report.clusters_per_block == mean and report.r_c == mean / case.spec.rows
    assert report.fused.relative_error < 1e-5
    if case.blocking.layout == "channel":
        assert mean == case.distinct
    elif round(mean) != case.distinct:
        assert "overlapping windows cannot repeat at will" in report.notes[0]


def test_too_few_bits_are_told(small_case: MakeCase) -> None:
    report = measure_conv(small_case(num_hashes=3), ONCE)
    assert report.clusters_per_block == 8 and report.distinct_per_block == [29, 29]
    assert report.notes[0].startswith("3 bits tell at most 8 vectors apart")
    assert report.fused.relative_error > 0.1


def test_hyperplanes_that_do_not_separate_are_told(small_case: MakeCase) -> None:
    report = measure_conv(small_case(family="sign", sub_vector_length=1), ONCE)
    assert report.clusters_per_block == 2
    assert report.notes[0].startswith("the codes of family sign do not tell all vectors apart")


def test_the_report_is_complete_and_can_be_read_again(small_case: MakeCase, tmp_path: Path) -> None:
    report = measure_conv(small_case(), Circumstances(threads=2, repeats=3, int8=True))
    write_report(report, tmp_path / "r.json")
    assert ConvReport.model_validate_json((tmp_path / "r.json").read_text()) == report
    assert report.staged is not None and report.int8 is not None
    forms = (report.dense, report.staged, report.fused, report.int8)
    for form in forms:
        assert len(form.samples_ms) == 3 and 0 < form.fastest_ms <= form.median_ms
        assert form.speedup == report.dense.median_ms / form.median_ms
        assert form.gflops == pytest.approx(2e-6 * 288 * 144 * 8 / form.median_ms)
    stages = report.fused.stages_ms
    assert min(stages.hash, stages.cluster, stages.gemm, stages.gather) > 0
    assert 0 < report.int8.relative_error < 0.1, "8 bits are enough for random values"
    assert report.int8.convolution_ms > 0 and "Int8 per channel" in report.int8.form
    assert report.peaks and report.floor
    assert report.peaks.threads == report.threads == 2 and report.floor.total_ms > 0
    assert report.centroid_gflops and report.fused.scratch_bytes > 0
    assert "onnxruntime" in report.machine.versions and report.machine.processors >= 1


def test_forms_that_are_not_asked_for_are_not_run(small_case: MakeCase) -> None:
    report = measure_conv(small_case(), Circumstances(repeats=1, staged=False))
    assert report.staged is None and report.int8 is None


@pytest.mark.parametrize(("table", "largest"), [("float", 1e-5), ("int8", 0.04)])
@pytest.mark.parametrize("changes", [{}, {"sub_vector_length": 5, "layout": "channel"}, {"remaining_ratio": 0.8}])
def test_static_centroids_leave_the_error_of_the_tables(
    small_case: MakeCase, table: str, largest: float, changes: dict[str, Any]
) -> None:
    case = small_case(scope="static", table=table, **changes)
    report = measure_conv(case, ONCE)
    assert report.setting.scope == "static" and report.notes == []
    assert report.clusters_per_block == case.distinct and report.r_c == case.distinct / 288
    assert 0 <= report.fused.relative_error < largest
    assert (report.staged is None) == (table == "int8") and report.centroid_gflops is None


def test_a_session_knows_all_clusters_from_the_warm_up(small_case: MakeCase) -> None:
    report = measure_conv(small_case(scope="session"), ONCE)
    assert report.setting.scope == "session" and report.r_c == 29 / 288
    assert 0 <= report.fused.relative_error < 1e-5 and report.centroid_gflops is None


def test_static_ids_that_are_wrong_are_a_defect(small_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(case: Any) -> LayerInput:
        data = build_input(case)
        assert data.centroids is not None
        return replace(data, centroids=np.ascontiguousarray(data.centroids[:, ::-1]))

    monkeypatch.setattr("reuse_compiler.benchmark.conv.build_input", wrong)
    with pytest.raises(VerificationError, match="although every vector of the input is a centroid"):
        measure_conv(small_case(scope="static"), ONCE)


def test_operators_that_find_other_clusters_are_a_defect(small_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(case: Any) -> LayerInput:
        data = build_input(case)
        return LayerInput(data.x, data.num_hashes, data.parameters, data.distinct, (28, 29))

    monkeypatch.setattr("reuse_compiler.benchmark.conv.build_input", wrong)
    with pytest.raises(VerificationError, match=r"found 58 clusters per run .* must find 57"):
        measure_conv(small_case(), ONCE)


def test_a_layer_that_the_compiler_declines(small_case: MakeCase) -> None:
    case = small_case(weight_shape=(16, 1, 3, 3), group=16, sub_vector_length=1)
    with pytest.raises(ConfigError, match="leaves this convolution as it is: it is depthwise"):
        measure_conv(case, ONCE)


def test_threads_are_compared(small_case: MakeCase) -> None:
    times = measure_threads(small_case(), (1, 2), repeats=1)
    assert times.threads == [1, 2] and len(times.dense_ms) == len(times.fused_ms) == 2
    assert min(*times.dense_ms, *times.fused_ms) > 0
