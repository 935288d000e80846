"""The page's content and structure, without a browser."""

from __future__ import annotations

import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.errors import OutputError
from reuse_compiler.reports.calibration_html import page, write_html
from reuse_compiler.reports.inline_svg import check_drawing
from reuse_compiler.reports.layer_times import shares
from reuse_compiler.reports.speed_chart import far_trials
from reuse_compiler.reports.theme import ROLES, stand_in
from tests.reports.calibration_sample import AWKWARD, SAMPLES, check, deep, dense, layer, sample, single

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order, every id once; keeps attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id" and value is not None]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all_of(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(text for where, text in self.texts if where != "style").split())


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: page(make()) for name, make in SAMPLES.items() if name != "deep"} | {"deep": page(deep(26))}


@pytest.mark.parametrize("name", SAMPLES)
def test_is_well_formed_and_stands_alone(pages: dict[str, str], name: str) -> None:
    read = Page(pages[name])
    assert len(read.ids) == len(set(read.ids)), "an id occurs twice"
    for _, attribute, value in read.attributes:
        if attribute in ("href", "src"):
            assert value.startswith("data:image/png;base64,") or value.removeprefix("#") in read.ids, value
        for reference in re.findall(r"url\(([^)]*)\)", value):
            assert reference.removeprefix("#") in read.ids
    assert not re.search(r"<script|<link|@import|xlink:|ns0:", pages[name])
    policies = [value for tag, attribute, value in read.attributes if attribute == "content" and "src" in value]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_colour_comes_from_the_style_sheet_in_light_and_dark(pages: dict[str, str], name: str) -> None:
    text = pages[name]
    assert not any(stand_in(role) in text for role in ROLES)
    style = text[text.index("<style>") : text.index("</style>")]
    for role in ROLES:
        assert style.count(f"--{role}: #") == 2, f"{role} needs a colour for light and for dark"
    for role in set(re.findall(r"var\(--([a-z0-9-]+)\)", text)):
        assert f"--{role}: #" in style, f"--{role} is used but not defined"
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.findall(r"(?:fill|stroke): #\w+", drawings)


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
    assert any(hostile in text for text in read.all_of("title")), "the title of a mark"


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


def test_every_measurement_and_trial_has_a_mark_that_tells_what_it_is(pages: dict[str, str]) -> None:
    report, titles = sample(), Page(pages["sample"]).all_of("title")
    measured = [m for item in report.layers for m in item.measurements]
    assert sum(title.startswith("L=") for title in titles) == len(measured)
    assert sum(title.startswith("chosen: L=") for title in titles) == 9
    for trial in report.trials:  # once for wide screens, once for narrow ones
        assert sum(title.startswith(f"{trial.step}: ") for title in titles) == 2


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
    assert far_trials(sample()) == 1
    assert "Triangles at the edge: 1 far outside." in page(sample()) and far_trials(single()) == 0


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


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_svg", None)
    for act in (check_drawing, lambda: write_html(dense(), tmp_path / "r.html")):
        with pytest.raises(OutputError, match=r"pip install 'reuse-compiler\[report\]'"):
            act()
    assert not list(tmp_path.iterdir())
