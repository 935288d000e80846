"""The table of a calibration: what stands where, and the summary."""

import io
from typing import Any

import pytest
from rich.console import Console

from reuse_compiler.calibration.report import CalibrationReport, Check, LayerCalibration, Measurement, Trial
from reuse_compiler.reports.calibration_table import print_calibration, totals
from reuse_compiler.reports.calibration_words import breaks_budget, is_success, verdict, why_nothing
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


def test_int8_and_where_the_time_went_follow_where_they_were_measured() -> None:
    form = "QDQ, activations UInt8, weights Int8 per channel"
    int8 = check(value=0.8461, drop=-0.0003, output_error=0.016, reuse_ms=3.2).model_dump() | {"form": form}
    lines = totals(report(int8=int8, ledger={"reading": 9.54, "measuring layers": 57.24, "trial: fitting": 28.62}))
    assert lines[5:7] == [
        f"int8          onnxruntime's own ({form}): top1 0.8461: within the budget",
        "              output error 0.016; 10 ms before, 3.2 ms after: 3.12 times as fast, 1 thread",
    ]
    assert "              measuring layers 60%, trial: fitting 30%, reading 10%" in lines
    assert "more than the budget allows" in totals(report(int8=int8 | {"within_budget": False}))[5]


def test_a_broken_budget_stands_out() -> None:
    lines = totals(report(check=check(value=0.84, drop=0.0058, target=0.8433, within_budget=False, samples=1)))
    assert breaks_budget(report(check=check(within_budget=False))) and not breaks_budget(report(check=None))
    assert not breaks_budget(report()) and not breaks_budget(dense(check=check(within_budget=False)))
    # The held-out samples' own target, not that of the samples that settings were chosen on.
    assert "0.84 after, on 1 run held out: MORE THAN THE BUDGET ALLOWS (0.8433)" in lines[2]


def test_what_is_not_faster_stands_out_and_is_no_success() -> None:
    slower = report(check=check(reuse_ms=11.0))
    assert (
        "time          10 ms before, 11 ms after: 1.10 times as slow, 1 thread: NOT FASTER THAN THE ORIGINAL"
        in totals(slower)
    )
    assert verdict(slower) == ("bad", "Slower than the original")
    assert not is_success(slower) and is_success(report()) and is_success(report(check=None))


def dense(measured: int = 2, reuse_ms: float = 2.0, **changes: Any) -> CalibrationReport:
    """Returns a calibration that chose nothing, of two layers, the first with `measured` settings."""
    found = [
        Measurement(
            settings=SETTINGS, r_c=0.1, output_error=0.3, dense_ms=2.0, reuse_ms=reuse_ms + index, operations=0.1
        )
        for index in range(measured)
    ]
    layers = [LayerCalibration(name=name, decision="dense", reason=REASON) for name in ("conv1", "conv2")]
    layers[0].measurements = found
    return report(**{"layers": layers, "trials": [], "reconstruction": {}, "check": None} | changes)


def trial(value: float, reuse_ms: float, accepted: bool) -> Trial:
    return Trial(
        step="one", layers={"conv1": SETTINGS}, value=value, drop=0.0, output_error=0.0, dense_ms=10.0,
        reuse_ms=reuse_ms, accepted=accepted,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (report(layers=[]), "no layers"),
        (dense(0), "no settings were tried: the reason stands with each layer"),
        (
            dense(reuse_ms=2.5),
            "2 settings of 1 layer were measured, and none is worth a trial in the whole model: the fastest, L=8, H=10 "
            "in 'conv1' is 1.25 times as slow alone",
        ),
        (
            dense(1, 1.0, trials=[trial(0.5, 6.0, False), trial(0.7, 8.0, False)]),
            "1 setting of 1 layer was measured, 2 choices of layers were tried in the whole model, and none keeps the "
            "accuracy budget: the nearest has top1 0.7, where 0.8453 is needed, and is 1.25 times as fast",
        ),
        (
            dense(1, 1.0, trials=[trial(0.5, 6.0, False), trial(0.9, 9.9, True)]),
            "1 setting of 1 layer was measured, 2 choices of layers were tried in the whole model, and the fastest "
            "that keeps the accuracy budget is 1.01 times as fast: less than 1.03 is within what times vary by",
        ),
        (
            dense(1, 1.0, trials=[trial(0.9, 12.0, True)]),
            "1 setting of 1 layer was measured, 1 choice of layers was tried in the whole model, and the fastest "
            "that keeps the accuracy budget is 1.20 times as slow",
        ),
        (
            dense(1, 1.0, trials=[trial(0.9, 9.0, True)], check=check(reuse_ms=12.0), reconstruction={"none": check()}),
            "1 setting of 1 layer was measured, 1 choice of layers was tried in the whole model, and the best of them, "
            "1.11 times as fast at first, is 1.20 times as slow on the held-out samples",
        ),
    ],
)
def test_where_nothing_is_found_it_says_what_was_tried_and_the_best_of_it(found: CalibrationReport, words: str) -> None:
    assert why_nothing(found) == words
    lines = totals(found)
    assert lines[1].startswith("0 of ") and lines[2] == f"why           {words}"
    assert (
        lines[-1] == "written to    net.reuse.json, which names no layer: compiling with it leaves the model as it is"
    )
    assert not any(line.startswith(("accuracy", "time")) for line in lines) and not is_success(found)


def test_totals_of_a_model_in_which_nothing_gains(tmp_path: Any) -> None:
    lines = totals(dense(0, output=None), tmp_path)
    assert lines[1:] == [
        "0 of 2 convolutions use reuse",
        "why           no settings were tried: the reason stands with each layer",
        "calibrated    on 50 runs of x [64, 3, 32, 32] from d.npz",
        "              0 choices tried in 95 s",
        "nothing was written",
        f"report in     {tmp_path}",
    ]
    assert printed(report(layers=[]))[1] == "0 of 0 convolutions use reuse"
