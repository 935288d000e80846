"""The report file: complete, readable again, and never written over another one unasked."""

import json
import math
import resource
from pathlib import Path

import pytest

from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.errors import OutputError
from reuse_compiler.report import LayerReport, ModelReport
from reuse_compiler.reports.json_file import write_report
from tests.reports.calibration_sample import sample

REPORT = ModelReport(
    model="net.onnx",
    layers=[LayerReport(name="conv", decision="dense", reason="naïve", output_error=math.inf)],
    rel_error=0.5,
    versions={"numpy": "2"},
    options={"seed": 0},
)


def test_holds_everything_and_is_strict_json(tmp_path: Path) -> None:
    write_report(REPORT, tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read["layers"][0] | {"name": "conv", "reason": "naïve"} == read["layers"][0]
    assert read["layers"][0]["output_error"] is None  # infinite
    assert set(read) == set(ModelReport.model_fields)
    assert ModelReport.model_validate(read).rel_error == 0.5


def test_replaces_only_when_asked_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("precious")
    with pytest.raises(OutputError, match=r"r\.json exists already.*--overwrite"):
        write_report(REPORT, path)
    assert path.read_text() == "precious"
    write_report(REPORT, path, overwrite=True)
    assert json.loads(path.read_text())["model"] == "net.onnx"
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "missing" / "r.json", "missing does not exist"),
        (tmp_path / "file" / "r.json", "file does not exist"),
    ):
        with pytest.raises(OutputError, match=message):
            write_report(REPORT, path)


def test_a_full_disk_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("precious")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))  # stands for the full disk
    try:
        with pytest.raises(OutputError, match=r"cannot write .*r\.json: File too large"):
            write_report(REPORT, path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "precious"
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    write_report(REPORT, tmp_path / "r.json")
    (tmp_path / "plain").touch()
    assert (tmp_path / "r.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_calibration_reads_back_as_it_was(tmp_path: Path) -> None:
    report = sample(target=math.inf)
    write_report(report, tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert CalibrationReport.model_validate_json(text) == report


def test_infinite_numbers_inside_of_a_calibration_read_back(tmp_path: Path) -> None:
    infinite = sample().trials[0].model_copy(update={"drop": math.inf})
    write_report(sample(trials=[infinite]), tmp_path / "report.json")
    read = CalibrationReport.model_validate_json((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert read.trials == [infinite]
