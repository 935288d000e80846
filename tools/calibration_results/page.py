"""The results of all networks as one Markdown page and one picture, made from the JSON files that are there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reuse_compiler.calibration.report import Flips
from reuse_compiler.reports.calibration_words import metric_value, parameters_words, settings_words
from reuse_compiler.reports.figures import MUTED, SERIES, SURFACE, svg
from reuse_compiler.reports.table import number
from tools import pages
from tools.calibration_results.measure import INT8
from tools.calibration_results.networks import NETWORKS
from tools.calibration_results.results import NetworkResult, VariantResult, result_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 640, 350
"""Of the picture, which README.md shows."""
REUSE, QUANTISED = "o", "s"
"""Markers of the two."""
LineStyle = Literal["-", "--", ":"]
LINES: tuple[LineStyle, ...] = ("-", "--", ":")
"""A network's line: the colours come again in the next of these once all have been used."""
CALIBRATED = "learned"
QUANTISED_LAYER = "_quant"
"""What onnxruntime's quantiser adds to the name of a layer, in one of its forms."""


def write_page(folder: Path) -> Path:
    """Writes page and picture from the results in the folder, in the order of NETWORKS; returns the page's path."""
    paths = [path for path in (result_path(folder, network) for network in NETWORKS) if path.is_file()]
    results = [NetworkResult.model_validate_json(path.read_bytes()) for path in paths]
    picture = svg(WIDTH, HEIGHT, lambda figure: _paint(figure, results), SURFACE)
    (folder / "calibration.svg").write_bytes(picture)
    return pages.write_page(
        folder / "calibration.md",
        Path(__file__).with_name("page.md.j2"),
        results=results,
        layers=_layers,
        name=_name,
        value=metric_value,
        change=_change,
        number=number,
        minutes=lambda seconds: "{}:{:02}".format(*divmod(round(seconds), 60)),
        gigabytes=lambda size: f"{size / 1e9:.2g} GB",
    )


def _name(result: NetworkResult, variant: VariantResult) -> str:
    if variant.name == INT8:
        return f"{variant.name} ({result.int8_form})"
    run = next((run for run in result.calibrations if run.variant == variant.name), None)
    if run is None:
        return variant.name
    return f"{variant.name} ({len(variant.layers)} of {len(run.report.layers)} convolutions)"


def _layers(result: NetworkResult) -> tuple[list[str], list[list[str]]]:
    """Settings and r_c of all layers that have reuse in any variant, in graph order: heading and rows."""
    reused = {
        variant.name: {layer.name.removesuffix(QUANTISED_LAYER): layer for layer in variant.layers}
        for variant in result.variants
    }
    reused = {name: layers for name, layers in reused.items() if layers}
    rows = []
    for layer in result.calibrations[0].report.layers:
        if not any(layer.name in layers for layers in reused.values()):
            continue
        cells = [layer.name, number(layer.K), number(layer.M)]
        for layers in reused.values():
            own = layers.get(layer.name)
            words = own and f"{parameters_words(own.settings)}, {settings_words(own.settings)}"
            cells += [words, number(own.r_c)] if own and words else ["dense", ""]
        rows.append(cells)
    return ["layer", "K", "M", *(heading for name in reused for heading in (name, "r_c"))], rows


def _change(value: float, flips: Flips | None) -> str:
    if not math.isfinite(value):
        return "–"
    words = f"{value:+.4f}".replace("-", "−") if value else "0"
    return words if flips is None or flips.standard_error == 0.0 else f"{words} ± {flips.standard_error:.4f}"


def _paint(figure: Figure, results: Sequence[NetworkResult]) -> None:
    """Draws a line for each network, from the model with reuse to the one in int8."""
    from matplotlib.lines import Line2D

    axes = figure.add_subplot()
    for result, (colour, line) in zip(results, _lines(), strict=False):
        points = [(_variant(result, name), marker) for name, marker in ((CALIBRATED, REUSE), (INT8, QUANTISED))]
        errors, speeds = [point.output_error for point, _ in points], [point.speedup for point, _ in points]
        axes.plot(errors, speeds, color=colour, linestyle=line, linewidth=1, alpha=0.5)
        for (_, marker), error, speed in zip(points, errors, speeds, strict=True):
            axes.plot(error, speed, marker, color=colour, markerfacecolor=SURFACE if marker == QUANTISED else colour)
    axes.axhline(1.0, color=MUTED, linewidth=1, linestyle=":")
    axes.set(xlim=(-0.004, None), ylim=(0.8, None))
    axes.set_xlabel("relative error of the output")
    axes.set_ylabel("times as fast as the original, 1 thread")
    faster = sum(_variant(result, INT8).speedup > _variant(result, CALIBRATED).speedup for result in results)
    axes.set_title(f"Up and left is better. int8 is faster in {faster} of {len(results)} cases.")
    kinds = [
        Line2D([], [], color=MUTED, marker=marker, linestyle="", markerfacecolor=inside, label=words)
        for marker, inside, words in (
            (REUSE, MUTED, "reuse, calibrated (float32)"),
            (QUANTISED, SURFACE, "onnxruntime's static int8"),
        )
    ]
    networks = [
        Line2D([], [], color=colour, linestyle=line, label=result.title)
        for result, (colour, line) in zip(results, _lines(), strict=False)
    ]
    figure.legend(handles=[*kinds, *networks], loc="outside right upper")


def _lines() -> Iterator[tuple[str, LineStyle]]:
    """Yields colours and styles of lines, no two of them alike; they are more than the networks."""
    return ((colour, line) for line in LINES for colour in SERIES)


def _variant(result: NetworkResult, name: str) -> VariantResult:
    return next(variant for variant in result.variants if variant.name == name)
