"""The report of a calibration as one self-contained HTML page: no scripts, no requests, light and dark."""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path

import numpy as np

from reuse_compiler.calibration.report import CalibrationReport, Check, ClusterPicture
from reuse_compiler.reports.calibration_words import (
    chosen_trial,
    errors_words,
    headline,
    layers_words,
    metric_value,
    milliseconds,
    rewritten,
    times_as_fast,
    verdict,
)
from reuse_compiler.reports.inline_svg import check_drawing
from reuse_compiler.reports.layer_curves import curves_section
from reuse_compiler.reports.layer_table import layers_section, steps_table
from reuse_compiler.reports.layer_times import times_section
from reuse_compiler.reports.markup import Markup, join, tag
from reuse_compiler.reports.pixels import ids_picture, png_url
from reuse_compiler.reports.reconstruction_chart import reconstruction_chart
from reuse_compiler.reports.sections import definitions, figure, key, section, table
from reuse_compiler.reports.speed_chart import far_trials, speed_chart
from reuse_compiler.reports.text_file import write_text

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
RECONSTRUCTIONS = {
    "none": ("none", "weights as they were"),
    "statistics": ("statistics", "each channel's mean and scale corrected"),
    "weights": ("weights", "weights and bias refitted by least squares"),
}


def write_html(report: CalibrationReport, path: Path, overwrite: bool = False) -> None:
    """Writes the page in one step; raises OutputError without matplotlib, or if the file cannot be written."""
    check_drawing()
    write_text(page(report), path, overwrite)


def page(report: CalibrationReport) -> str:
    """Returns the whole page."""
    style = resources.files("reuse_compiler.reports").joinpath("calibration.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{report.model}: calibration of deep reuse"),
        tag("style", Markup(style)),
    )
    sections = [
        times_section(report),
        _trials(report),
        layers_section(report),
        curves_section(report),
        _reconstruction(report),
        _pictures(report),
        _repetition(report),
    ]
    body = tag("body", tag("main", _header(report), *sections))
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _header(report: CalibrationReport) -> Markup:
    kind, words = verdict(report)
    return tag(
        "header",
        tag("p", "Calibration of deep reuse", class_="eyebrow"),
        tag("h1", report.model),
        tag("p", tag("span", words, class_=f"verdict {kind}")),
        tag("p", headline(report), class_="lead"),
        tag("dl", *_tiles(report), class_="tiles"),
    )


def _tiles(report: CalibrationReport) -> list[Markup]:
    tiles = []
    check = report.check
    if check is not None and rewritten(report):
        speed = f"{milliseconds(check.dense_ms)} → {milliseconds(check.reuse_ms)} ms, end to end"
        values = f"{metric_value(check.original)} → {metric_value(check.value)}"
        drop = f"drop {_drop(check)}" if math.isfinite(check.drop) else f"target {metric_value(report.target)}"
        tiles += [
            _tile("Speed-up", times_as_fast(check.dense_ms, check.reuse_ms), speed),
            _tile(f"{report.metric}, held out", values, drop),
            _tile("Output error", errors_words(check.output_error), "relative L2, held out"),
        ]
    count = f"{len(rewritten(report))} of {len(report.layers)}"
    return [
        *tiles,
        _tile("Layers with reuse", count, "convolutions"),
        _tile("Calibrated in", *_duration(report.seconds)),
    ]


def _tile(name: str, value: str, note: str) -> Markup:
    return tag("div", tag("dt", name), tag("dd", value, class_="value"), tag("dd", note, class_="note"))


def _duration(seconds: float) -> tuple[str, str]:
    if seconds < 60:
        return f"{seconds:.0f} s", "measuring included"
    minutes = round(seconds / 60)
    return (
        (f"{minutes} min", "measuring included") if minutes < 120 else (f"{seconds / 3600:.1f} h", "measuring included")
    )


def _drop(check: Check) -> str:
    drop = "none" if check.drop == 0 else metric_value(check.drop)
    return drop if check.flips is None else f"{drop} ± {metric_value(check.flips.standard_error)}"


def _trials(report: CalibrationReport) -> Markup | None:
    far = far_trials(report)
    edge = f" Triangles at the edge: {far} far outside." if far else ""
    keys = tag(
        "p",
        key("star", "reuse", "chosen"),
        key("dot", "good", "keeps the budget"),
        key("cross", "bad", "breaks it"),
        key("ring", "ink", "original"),
        class_="keys",
    )
    card = figure(keys, lambda width: speed_chart(report, width))
    if card is None:
        return None
    caption = (
        f"Each mark is one choice of layers and settings, measured end to end on the samples for selection; "
        f"the dashed line is the budget.{edge}"
    )
    beside = tag("div", card, _trials_summary(report), class_="beside")
    return section("Speed against accuracy", caption, beside, steps_table(report), id_="trials")


def _trials_summary(report: CalibrationReport) -> Markup:
    chosen = chosen_trial(report)
    facts = {
        "Choices measured": str(len(report.trials)),
        "Keep the budget": str(sum(t.accepted for t in report.trials)),
    }
    facts[f"{report.metric} to keep"] = metric_value(report.target)
    if chosen is not None:
        facts |= {f"{report.metric} of the chosen": metric_value(chosen.value)}
        facts |= {"Speed-up of the chosen": times_as_fast(chosen.dense_ms, chosen.reuse_ms)}
    return tag("div", definitions(facts), class_="summary")


def _reconstruction(report: CalibrationReport) -> Markup | None:
    if not report.reconstruction and not any(layer.error_reconstructed is not None for layer in report.layers):
        return None
    rows = [_reconstruction_row(name, check) for name, check in report.reconstruction.items()]
    head = ("Reconstruction", report.metric, "Drop", "Output error", "ms", "Budget")
    shown = [layer for layer in rewritten(report) if layer.error_reconstructed is not None]
    keys = tag("p", key("ring", "muted", "before"), key("dot", "reuse", "after"), class_="keys")
    card = figure(keys, lambda width: reconstruction_chart(shown, width))
    parts = [table(head, rows) if rows else None]
    if card is not None:
        names = tag("ol", *(tag("li", layer.name) for layer in shown), class_="names")
        parts.append(tag("div", card, names, class_="beside"))
    caption = (
        "The chosen layers on the held-out data with each way to correct weights and bias for what reuse changes. "
        "It costs nothing at run time."
    )
    return section("Reconstruction", caption, *parts, id_="reconstruction")


def _reconstruction_row(name: str, check: Check) -> list[Markup]:
    words = RECONSTRUCTIONS.get(name, (name, ""))
    kept = tag(
        "span",
        "kept" if check.within_budget else "not kept",
        class_="pill " + ("good" if check.within_budget else "bad"),
    )
    return [
        join(tag("strong", words[0]), tag("small", words[1])),
        join(metric_value(check.value)),
        join(_drop(check)),
        join(errors_words(check.output_error)),
        join(milliseconds(check.reuse_ms)),
        kept,
    ]


def _pictures(report: CalibrationReport) -> Markup | None:
    drawn = [_picture(picture) for picture in report.pictures if picture.ids and picture.ids[0]]
    if not drawn:
        return None
    caption = (
        "One block of neuron vectors of one sample, a colour per cluster: pixels of one colour share their products "
        "with the weights."
    )
    return section("Which pixels share a cluster", caption, tag("div", *drawn, class_="pictures"), id_="clusters")


def _picture(picture: ClusterPicture) -> Markup:
    height, width = len(picture.ids), len(picture.ids[0])
    clusters = len({id_ for row in picture.ids for id_ in row})
    images = []
    if picture.image:
        images.append(_image(np.array(picture.image, np.uint8), "the input image"))
    images.append(_image(ids_picture(picture.ids), f"clusters of {picture.layer}, block {picture.block}"))
    words = f"block {picture.block}: {width}×{height} vectors, {clusters} cluster{'' if clusters == 1 else 's'}"
    return tag(
        "figure",
        tag("div", *images, class_="pair"),
        tag("figcaption", tag("strong", picture.layer), tag("small", words)),
    )


def _image(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], words: str) -> Markup:
    return tag("img", src=png_url(picture), alt=words, width=str(picture.shape[1]), height=str(picture.shape[0]))


def _repetition(report: CalibrationReport) -> Markup:
    command = None
    if report.command is not None:
        command = join(tag("h3", "Command"), tag("pre", tag("code", report.command)))
    facts = {"model": report.model, "data": report.data, "layers": layers_words(report)}
    lists = [
        tag("div", tag("h3", title), definitions(values))
        for title, values in (
            ("Calibration", facts),
            ("Options", {name: _option(value) for name, value in report.options.items()}),
            ("Versions", report.versions),
        )
        if values
    ]
    return section("How to repeat it", None, command, tag("div", *lists, class_="facts"), id_="repeat")


def _option(value: object) -> str:
    if value is None:
        return "not given"
    if isinstance(value, dict):
        return ", ".join(f"{name}={_option(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_option, value)) or "none"
    return str(value)
