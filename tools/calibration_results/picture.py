"""The results of all networks as one picture: how fast, and at which error, reuse and onnxruntime's int8 are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reuse_compiler.reports.figures import MUTED, SERIES, SURFACE, svg
from tools.calibration_results.measure import INT8
from tools.calibration_results.results import NetworkResult, VariantResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 640, 350
REUSE, QUANTISED = "o", "s"
"""Markers of the two."""
CALIBRATED = "learned"


def write_picture(folder: Path, results: Sequence[NetworkResult]) -> Path:
    """Writes the picture, which README.md shows; returns its path."""
    path = folder / "calibration.svg"
    path.write_bytes(svg(WIDTH, HEIGHT, lambda figure: _paint(figure, results), SURFACE))
    return path


def _paint(figure: Figure, results: Sequence[NetworkResult]) -> None:
    """Draws a line for each network, from the model with reuse to the one in int8."""
    from matplotlib.lines import Line2D

    axes = figure.add_subplot()
    for result, colour in zip(results, SERIES, strict=False):
        points = [(_variant(result, name), marker) for name, marker in ((CALIBRATED, REUSE), (INT8, QUANTISED))]
        errors, speeds = [point.output_error for point, _ in points], [point.speedup for point, _ in points]
        axes.plot(errors, speeds, color=colour, linewidth=1, alpha=0.5)
        for (_, marker), error, speed in zip(points, errors, speeds, strict=True):
            axes.plot(error, speed, marker, color=colour, markerfacecolor=SURFACE if marker == QUANTISED else colour)
    axes.axhline(1.0, color=MUTED, linewidth=1, linestyle=":")
    axes.set(xlim=(-0.004, None), ylim=(0.8, None))
    axes.set_xlabel("relative error of the output")
    axes.set_ylabel("times as fast as the original, 1 thread")
    faster = sum(_variant(result, INT8).speedup > _variant(result, CALIBRATED).speedup for result in results)
    axes.set_title(f"Up and left is better. int8 is faster in {faster} of {len(results)} cases.")
    kinds = [
        Line2D([], [], color=MUTED, marker=REUSE, linestyle="", label="reuse, calibrated (float32)"),
        Line2D(
            [],
            [],
            color=MUTED,
            marker=QUANTISED,
            linestyle="",
            markerfacecolor=SURFACE,
            label="onnxruntime's static int8",
        ),
    ]
    networks = [Line2D([], [], color=SERIES[index], label=result.title) for index, result in enumerate(results)]
    figure.legend(handles=[*kinds, *networks], loc="outside right upper")


def _variant(result: NetworkResult, name: str) -> VariantResult:
    return next(variant for variant in result.variants if variant.name == name)
