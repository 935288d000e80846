"""The table of a calibration: what stands where, and the summary."""

import io
from typing import Any

import pytest
from rich.console import Console

from reuse_compiler.calibration.report import CalibrationReport, Check, LayerCalibration, Measurement, Trial
from reuse_compiler.reports.calibration_table import print_calibration, totals
from reuse_compiler.reuse.config import LayerSettings

REASON = "no setting is faster than the dense layer: the best takes 1.3 times as long"
SETTINGS = LayerSettings(family="learned", layout="channel", L=8, H=10, table="int8")


def check(**changes: Any) -> Check:
    values: dict[str, Any] = {
        "samples": 15,
        "original": 0.8458,
        "value": 0.84553,
        "drop": 0.00027,
        "output_error": 0.0321,
        "dense_ms": 10.0,
        "reuse_ms": 4.0,
        "target": 0.8453,
        "within_budget": True,
    }
    return Check.model_validate(values | changes)


def report(**changes: Any) -> CalibrationReport:
    measured = Measurement(settings=SETTINGS, r_c=0.0567, output_error=0.3, dense_ms=2.5, reuse_ms=0.81, operations=0.1)
    reused = LayerCalibration(
        name="conv[1]",
        decision="reuse",
        reason="saves 1.7 ms",
        dense_ms=2.5,
        measurements=[measured],
        chosen=measured,
        error_as_is=0.2,
        error_reconstructed=0.123,
    )
    dense = [LayerCalibration(name=name, decision="dense", reason=REASON, dense_ms=0.5) for name in ("conv2", "conv3")]
    trial = Trial(
        step="first",
        layers={"conv[1]": SETTINGS},
        value=0.84,
        drop=0.0,
        output_error=0.0,
        dense_ms=1.0,
        reuse_ms=1.0,
        accepted=True,
    )
    values: dict[str, Any] = {
        "model": "net.onnx",
        "output": "net.reuse.json",
        "data": "50 runs of x [64, 3, 32, 32] from d.npz",
        "metric": "top1",
        "higher_is_better": True,
        "target": 0.8453,
        "layers": [reused, *dense],
        "trials": [trial, trial],
        "reconstruction": {"none": check(value=0.81), "weights": check()},
        "check": check(),
        "seconds": 95.4,
        "versions": {},
        "options": {"threads": 1},
    }
    return CalibrationReport.model_validate(values | changes)


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


def printed(report: CalibrationReport, width: int | None = None) -> list[str]:
    stream = io.StringIO()
    print_calibration(report, Console(file=stream, force_terminal=width is not None, width=width, color_system=None))
    return stream.getvalue().splitlines()


def test_a_pipe_gets_one_line_per_layer_however_long() -> None:
    header, first, second = printed(report())[:3]
    assert header.split() == [
        "layer",
        "decision",
        "family",
        "L",
        "H",
        "table",
        "r_c",
        "dense",
        "ms",
        "reuse",
        "ms",
        "error",
    ]
    assert first.split()[:10] == ["conv[1]", "reuse", "learned", "8", "10", "int8", "0.057", "2.5", "0.81", "0.12"]
    assert second.split() == ["conv2", "dense", "-", "-", "-", "-", "-", "0.5", "-", "-"]


@pytest.mark.parametrize(("errors", "shown"), [((None, 0.2), "0.2"), ((None, None), "0.3")])
def test_the_error_is_the_latest_one_that_was_measured(errors: tuple[float | None, ...], shown: str) -> None:
    whole = report()
    whole.layers[0].error_reconstructed, whole.layers[0].error_as_is = errors
    assert printed(whole)[1].split()[9] == shown


@pytest.mark.parametrize("width", [80, None])
def test_a_narrow_terminal_and_a_pipe_get_the_reasons_of_dense_layers_once_below(width: int | None) -> None:
    lines = printed(report(), width)
    assert all(len(line) <= 80 for line in lines[:4]) and "reason" not in lines[0]
    text = " ".join(" ".join(lines).split())
    assert text.count(REASON) == 1 and f"Why layers stay dense: conv2, conv3: {REASON}" in text


def test_totals() -> None:
    assert totals(report())[1:] == [
        "1 of 3 convolutions use reuse",
        "accuracy      top1 0.8458 before, 0.84553 after, on 15 runs held out: within the budget",
        "output error  relative 0.032",
        "time          10 ms before, 4 ms after: 2.50 times as fast, 1 thread",
        "rebuilt       top1 by reconstruction: none 0.81, weights 0.84553",
        "calibrated    on 50 runs of x [64, 3, 32, 32] from d.npz",
        "              2 choices tried in 95 s",
        "written to    net.reuse.json",
    ]


def test_a_broken_budget_stands_out() -> None:
    lines = totals(report(check=check(value=0.84, drop=0.0058, target=0.8433, within_budget=False, samples=1)))
    # The held-out samples' own target, not that of the samples that settings were chosen on.
    assert "0.84 after, on 1 run held out: MORE THAN THE BUDGET ALLOWS (0.8433)" in lines[2]


def test_totals_of_a_model_in_which_nothing_gains(tmp_path: Any) -> None:
    lines = totals(report(layers=[], trials=[], reconstruction={}, check=None, output=None), tmp_path)
    assert lines[1:] == [
        "0 of 0 convolutions use reuse",
        "calibrated    on 50 runs of x [64, 3, 32, 32] from d.npz",
        "              0 choices tried in 95 s",
        "nothing was written",
        f"report in     {tmp_path}",
    ]
    assert printed(report(layers=[]))[1] == "0 of 0 convolutions use reuse"
