"""A study of similarity as tables: for each layer the smallest r_c of each curve that keeps the accuracy."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from reuse_compiler.reports.printable import printable
from reuse_compiler.reports.table import Row, number, numbers, print_lines, print_table, words
from tools.similarity.report import SimilarityPoint, SimilarityReport, StudiedLayer

KEPT = 0.005
"""An accuracy that is so much lower than the original's still counts as kept."""
ACCURACIES = {"top1": "top-1 accuracy", "agreement": "agreement with the original"}

COLUMNS = [
    *words("method", "scope", "vectors", "distance"),
    *numbers("r_c", "accuracy", "layer error", "kept from r_c"),
]

CurveKey = tuple[str, str, int, str]


def curves_of(layer: StudiedLayer) -> dict[CurveKey, list[SimilarityPoint]]:
    """Returns the points of each (method, scope, L, metric) in order of r_c, method by method."""
    curves: dict[CurveKey, list[SimilarityPoint]] = {}
    for point in layer.points:
        curves.setdefault((point.method, point.scope, point.L, point.metric), []).append(point)
    methods = list(dict.fromkeys(point.method for point in layer.points))
    keys = sorted(curves, key=lambda key: methods.index(key[0]))
    return {key: sorted(curves[key], key=lambda point: point.r_c) for key in keys}


def granularity(point: SimilarityPoint) -> str:
    """Returns the length of the vectors in the paper's words."""
    return f"whole ({point.L})" if point.whole else f"sub ({point.L})"


def print_study(report: SimilarityReport, console: Console) -> None:
    """Prints for each layer the points of its curves, with the smallest r_c of each at which accuracy is kept."""
    for layer in report.layers:
        console.print(Text(f"{printable(layer.name)}  N={layer.N} per batch, K={layer.K}, M={layer.M}", style="bold"))
        print_table(COLUMNS, _rows(layer, report.original), console)
        print_lines([f"left out: {sentence}" for sentence in layer.left_out], console, style="dim")
        console.print()
    print_lines(_totals(report), console)


def _rows(layer: StudiedLayer, original: float | None) -> Iterator[Row]:
    """Yields one row per point; what all points of a curve have in common stands in the first one's."""
    for (method, scope, _, metric), points in curves_of(layer).items():
        kept = [p.r_c for p in points if p.accuracy is not None and original and p.accuracy >= original - KEPT]
        for index, point in enumerate(points):
            accuracy = "-" if point.accuracy is None else f"{point.accuracy:.3f}"
            values = [number(point.r_c), accuracy, number(point.output_error)]
            curve = [method, scope, granularity(point), metric] if index == 0 else [""] * 4
            yield Row([*curve, *values, number(min(kept, default=None)) if index == 0 else ""])


def _totals(report: SimilarityReport) -> list[str]:
    lines = [f"measured on    {report.data}"]
    if report.accuracy is not None:
        lines.append(f"accuracy       {ACCURACIES[report.accuracy]}; of the original {report.original:.4f}")
        lines.append(f"kept from r_c  the smallest r_c with an accuracy of at least the original's less {KEPT}")
    return [*lines, f"time           {report.seconds:.0f} s"]
