"""The table of goals: its rows are possible, and small ones are measured."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reuse_compiler.benchmark.conv import Circumstances
from tests.custom_ops.quantised_cases import runtime_saturates
from tools.goals import table
from tools.goals.__main__ import app
from tools.goals.report import TableReport
from tools.goals.table import (
    GOALS,
    QUANTISED_GOALS,
    SCALING,
    STATIC_BYTE_GOALS,
    STATIC_GOALS,
    Goal,
    measure_goals,
)

SMALL = Goal((8, 8), 3, 10, 4, 0.0, 0.2)


@pytest.mark.parametrize("goal", GOALS + STATIC_GOALS + QUANTISED_GOALS + STATIC_BYTE_GOALS, ids=str)
def test_every_row_is_a_possible_case(goal: Goal) -> None:
    case = goal.case()
    assert str(case) == goal.layer and case.spec.output_shape[2:] == case.spec.input_shape[2:]
    assert case.blocking.layout == ("patch" if goal.channels[0] == 3 else "channel")


def test_rows_say_their_setting() -> None:
    settings = {(goal.layer, goal.setting): goal.least for goal in GOALS}
    assert len(GOALS) == 9 and SCALING in GOALS
    assert settings["256->256, 3x3, 56x56", "L=64, r_c 0.10"] == 4.0
    assert settings["64->64, 3x3, 224x224", "L=8, 256 clusters per block, int8 tables"] == 2.5
    assert settings["64->64, 5x5, batch 32, 16x16", "L=16, r_c 0.06"] == 3.5


def test_a_small_table() -> None:
    unreachable = Goal((8, 8), 3, 10, 4, 1e9, clusters=16, batch=2)
    int8 = Goal((8, 8), 3, 10, 4, 0.0, 0.2, table="int8")
    report = measure_goals(Circumstances(repeats=1, staged=False), (SMALL, unreachable, int8), SMALL)
    assert TableReport.model_validate_json(report.model_dump_json()) == report
    first, second, third, scaling = report.rows
    assert first.reached is True and second.reached is False
    assert first.measured and second.measured and third.measured
    assert first.speedup == pytest.approx(first.measured.dense_ms / first.measured.fused_ms)
    assert second.measured.clusters_per_block == 16 and second.measured.r_c == 16 / 200
    assert first.measured.error < 1e-5 < third.measured.error, "int8 tables are less exact"
    for measured in (first.measured, second.measured, third.measured):
        assert measured.floor_ms is not None
        assert min(*measured.floor_ms.model_dump().values(), *measured.stages_ms.model_dump().values()) > 0
    assert scaling.measured is None and scaling.goal == 1.8
    assert scaling.setting == "L=4, r_c 0.20: 2 threads against 1"
    assert (scaling.scaling is None) == (scaling.skipped is not None)


def test_static_rows_have_a_goal_over_int8() -> None:
    never = replace(STATIC_GOALS[0], channels=(8, 8), size=20, sub_vector_length=4, least=0.0, least_over_int8=1e9)
    (row,) = measure_goals(Circumstances(repeats=1, staged=False, int8=True), (never,), None).rows
    assert row.measured and row.measured.int8_speedup and row.speedup
    assert row.over_int8 == pytest.approx(row.speedup / row.measured.int8_speedup)
    assert row.reached is False and row.goal_over_int8 == 1e9


@pytest.mark.skipif(runtime_saturates(), reason="onnxruntime's QLinearConv cuts sums off on this processor")
def test_rows_of_bytes_are_measured_beside_onnxruntimes() -> None:
    small = replace(QUANTISED_GOALS[1], channels=(8, 8), size=20, sub_vector_length=8, least=0.0)
    (row,) = measure_goals(Circumstances(repeats=1), (small,), None).rows
    assert row.setting == "L=8, r_c 0.10, bytes" and row.reached
    assert row.measured and row.measured.r_c == 0.1 and row.measured.floor_ms is None and row.measured.error == 0.0


@pytest.mark.skipif(runtime_saturates(), reason="onnxruntime's QLinearConv cuts sums off on this processor")
def test_static_rows_of_bytes_have_the_goals_over_int8() -> None:
    assert [goal.least for goal in STATIC_BYTE_GOALS] == [goal.least_over_int8 for goal in STATIC_GOALS]
    never = replace(STATIC_BYTE_GOALS[0], channels=(8, 8), size=20, sub_vector_length=4, least=1e9)
    (row,) = measure_goals(Circumstances(repeats=1), (never,), None).rows
    assert row.setting == "L=4, 256 clusters per block, static, int8 tables, bytes"
    assert row.reached is False and row.goal_over_int8 is None and row.over_int8 is None
    assert row.measured and 0.0 < row.measured.error < 0.05


def test_prints_what_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = (SMALL, Goal((8, 8), 3, 10, 8, 1e6, 0.2))
    monkeypatch.setattr(table, "GOALS", small)
    monkeypatch.setattr(table, "SCALING", SMALL)
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["--quick", "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.stderr
    report = TableReport.model_validate_json((tmp_path / "r.json").read_text())
    assert report.repeats == 5 and len(report.rows) == 3
    lines = result.stdout.splitlines()
    assert "reached" in lines[1] and "missed" in lines[2] and "2 threads against 1" in lines[3]
    measured = report.rows[0].measured
    assert measured is not None and measured.floor_ms is not None and f" {measured.fused_ms:.2f} " in lines[1]
    assert f" {sum(measured.floor_ms.model_dump().values()):.2f} " in lines[1]
    assert "peaks of 1 thread: " in result.stdout


def test_a_report_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--json", str(tmp_path / "nowhere" / "r.json")])
    assert result.exit_code == 1 and "does not exist" in result.stderr
