"""The page's content and structure, without a browser."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest

from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.errors import OutputError
from reuse_compiler.reports.calibration_figures import near_trials, shares
from reuse_compiler.reports.calibration_page import page, write_html
from reuse_compiler.reports.page import TEMPLATES, check_extra
from tests.reports.calibration_sample import AWKWARD, SAMPLES, check, deep, dense, layer, sample, single
from tests.reports.reading import Page


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: page(make()) for name, make in SAMPLES.items() if name != "deep"} | {"deep": page(deep(26))}


@pytest.mark.parametrize("name", SAMPLES)
def test_is_well_formed_accessible_and_stands_alone(pages: dict[str, str], name: str) -> None:
    Page(pages[name]).check()


def test_every_colour_of_the_style_sheet_is_defined_for_light_and_dark() -> None:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for name in set(re.findall(r"var\((--[a-z-]+)\)", style)):
        assert f"{name}: #" in light and f"{name}: #" in dark, name


def test_names_are_escaped_everywhere() -> None:
    hostile = '</td><script>alert(1)</script>&amp;"'
    one = single()
    only = one.layers[0].model_copy(update={"name": hostile, "reason": hostile})
    trial = one.trials[0].model_copy(update={"step": hostile})
    shown = page(
        one.model_copy(
            update={
                "model": hostile, "data": hostile, "metric": hostile, "command": hostile, "layers": [only],
                "trials": [trial], "options": {hostile: hostile}, "versions": {hostile: hostile},
                "reconstruction": {hostile: check(0.9, 1.0)},
                "pictures": [p.model_copy(update={"layer": hostile}) for p in one.pictures],
            }
        )
    )  # fmt: skip
    assert "<script" not in shown
    read = Page(shown)
    assert read.all_of("h1") == [hostile]
    assert any(hostile in value for _, attribute, value in read.attributes if attribute == "alt")


def test_says_what_the_calibration_came_to(pages: dict[str, str]) -> None:
    text = Page(pages["sample"]).text
    assert "With reuse the model is 1.83 times as fast: 881 ms instead of 1610 ms." in text
    assert "On 72 held-out runs iou goes from 1 to 0.956, which keeps the budget." in text
    assert "Budget kept on held-out data" in text and "9 of 20" in text
    text = Page(pages["single"]).text
    assert "Budget not kept on held-out data" in text and "mse goes from 0 to 0.02, which is more than" in text
    text = Page(pages["dense"]).text
    assert "No layer gains from reuse within the accuracy budget" in text and "Speed-up" not in Page(
        pages["dense"]
    ).all_of("dt")


def test_int8_and_where_the_time_went_have_their_place(pages: dict[str, str]) -> None:
    plain = Page(pages["sample"])
    assert "onnxruntime’s int8" not in plain.all_of("dt") and "Where the calibration’s own time went" not in plain.text
    int8 = check(0.978, 424.0).model_dump() | {"form": "QDQ"}
    text = Page(page(sample(int8=int8, ledger={"measuring layers": 684.0}))).text
    assert "onnxruntime’s int8" in text and "3.80×" in text and "iou 0.978, within the budget" in text
    assert "Where the calibration’s own time went" in text and "measuring layers" in text and "75%" in text


def test_a_row_for_every_layer_with_its_numbers_and_its_reason(pages: dict[str, str]) -> None:
    report = sample()
    text = Page(pages["sample"]).text
    for item in report.layers:
        assert item.name in text and item.reason in text
    read = Page(pages["sample"])
    labels = [value for tag, name, value in read.attributes if tag == "td" and name == "data-label"]
    assert labels.count("Bound") == len(report.layers)
    chosen = report.layers[1].chosen
    assert chosen is not None and chosen.error_bound is not None
    assert f"{chosen.r_c:.2g}" in text and f"{chosen.error_bound:.2g}" in text and "L=16, H=10" in text


def test_a_row_for_every_measurement_and_trial(pages: dict[str, str]) -> None:
    report, read = sample(), Page(pages["sample"])
    measured = [m for item in report.layers for m in item.measurements]
    assert f"All {len(measured)} measurements" in read.all_of("summary")
    labels = [value for _, name, value in read.attributes if name == "data-label"]
    assert labels.count("L and H") == len(measured) and labels.count("Drop") == len(report.trials) + 3
    for trial in report.trials:
        assert trial.step in read.all_of("th")
    assert read.all_of("span").count("chosen") == 1


def test_reconstruction_by_way_and_by_layer(pages: dict[str, str]) -> None:
    text = Page(pages["sample"]).text
    assert "weights and bias refitted by least squares" in text
    assert "none weights as they were" in text and "1. slice1.3" in text and "9. slice4.30" in text


def test_a_hundred_layers_fold_away_what_is_too_much(pages: dict[str, str]) -> None:
    assert not any(text.endswith(" more layers") for text in Page(pages["deep"]).all_of("summary"))
    assert pages["deep"].count('class="card curve') == 24
    many = page(deep(30))  # two of them with three channels, which were not measured
    read = Page(many)
    assert "4 more layers" in read.all_of("summary")
    assert many.count('class="card curve') == 28
    assert AWKWARD in read.text


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": [], "trials": [], "check": None, "reconstruction": {}, "pictures": []},
        {"check": None},
        {"check": None, "trials": []},
        {"layers": [layer(0)], "trials": [], "check": None},
        {"target": math.inf},
    ],
)
def test_whatever_is_missing(changes: dict[str, object]) -> None:
    read = Page(page(sample(**{"layers": [layer(0), layer(1)], **changes})))
    assert read.all_of("h1") == ["text_detector.onnx"]
    assert "How to repeat it" in read.all_of("h2")


def infinite_psnr() -> CalibrationReport:
    trials = [
        t.model_copy(update={"value": v, "drop": math.inf}) for t, v in zip(sample().trials, (30.0, 36.0), strict=False)
    ]
    check_ = check(0.96, 800.0).model_copy(update={"original": math.inf, "value": 36.2, "drop": math.inf})
    return sample(metric="psnr", target=35.0, trials=trials, check=check_, layers=[layer(1)])


def test_a_metric_that_is_infinite_for_the_original() -> None:
    text = Page(page(infinite_psnr())).text
    assert "psnr goes from ∞ to 36.2" in text and "target 35" in text


def test_measurements_without_error_or_ratio_have_no_place_on_logarithmic_axes() -> None:
    lossless = layer(1).measurements[0].model_copy(update={"output_error": 0.0, "r_c": 0.0})
    only = layer(1).model_copy(update={"measurements": [lossless], "chosen": lossless})
    assert "Remaining ratio against error" not in Page(page(sample(layers=[only]))).text


def test_bars_hold_all_of_the_time_in_eight_pieces_at_most() -> None:
    report = deep(40)
    pieces = shares(report.layers)
    assert len(pieces) == 8 and pieces[-1].name == "33 other layers"
    assert sum(piece.before for piece in pieces) == pytest.approx(sum(x.dense_ms or 0 for x in report.layers))
    saved = sum(x.chosen.dense_ms - x.chosen.reuse_ms for x in report.layers if x.chosen)
    assert sum(piece.before - piece.after for piece in pieces) == pytest.approx(saved)


def test_trials_far_outside_are_counted() -> None:
    report = sample()
    assert [t.step for t in report.trials if t not in near_trials(report)] == ["coarser trees"]
    assert "Too far outside to be drawn: 1." in page(report)
    assert near_trials(single()) == single().trials


def test_is_the_same_every_time() -> None:
    assert page(single()) == page(single())


def test_is_written_in_one_step_and_never_over_another_unasked(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("precious")
    with pytest.raises(OutputError, match=r"report\.html exists already"):
        write_html(dense(), path)
    assert path.read_text() == "precious"
    write_html(dense(), path, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib.backends.backend_svg"])
def test_without_what_it_is_made_with_the_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for act in (check_extra, lambda: write_html(dense(), tmp_path / "r.html")):
        with pytest.raises(OutputError, match=rf"{missing} is missing: `pip install 'reuse-compiler\[report\]'`"):
            act()
    assert not list(tmp_path.iterdir())
