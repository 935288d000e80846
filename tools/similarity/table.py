"""A study of similarity as tables: for each layer the smallest r_c of each curve that keeps the accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reuse_compiler.reports.table import number
from tools.similarity.report import SimilarityPoint, SimilarityReport, StudiedLayer

KEPT = 0.005
"""An accuracy that is so much lower than the original's still counts as kept."""
ACCURACIES = {"top1": "top-1 accuracy", "agreement": "agreement with the original"}

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
    """Prints one table per layer and what the numbers are."""
    for layer in report.layers:
        console.print(Text(f"{layer.name}  N={layer.N} per batch, K={layer.K}, M={layer.M}", style="bold"))
        console.print(study_table(layer, report.original))
        for sentence in layer.left_out:
            console.print(Text(f"left out: {sentence}", style="dim"), soft_wrap=True)
        console.print()
    for line in _totals(report):
        console.print(Text(line), soft_wrap=True)


def study_table(layer: StudiedLayer, original: float | None) -> Table:
    """Returns one row per curve: the accuracy about some r_c, and the smallest r_c at which it is kept."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("method", "scope", "vectors", "distance"):
        table.add_column(name)
    for name in ("r_c", "accuracy", "layer error", "kept from r_c"):
        table.add_column(name, justify="right", no_wrap=True)
    for (method, scope, _, metric), points in curves_of(layer).items():
        kept = [p.r_c for p in points if p.accuracy is not None and original and p.accuracy >= original - KEPT]
        table.add_row(
            *(method, scope, granularity(points[0]), metric),
            _series(points, lambda point: number(point.r_c)),
            _series(points, lambda point: "-" if point.accuracy is None else f"{point.accuracy:.3f}"),
            _series(points, lambda point: number(point.output_error)),
            number(min(kept, default=None)),
        )
    return table


def _series(points: Iterable[SimilarityPoint], cell: Callable[[SimilarityPoint], str]) -> str:
    return "\n".join(cell(point) for point in points)


def _totals(report: SimilarityReport) -> list[str]:
    lines = [f"measured on    {report.data}"]
    if report.accuracy is not None:
        lines.append(f"accuracy       {ACCURACIES[report.accuracy]}; of the original {report.original:.4f}")
        lines.append(f"kept from r_c  the smallest r_c with an accuracy of at least the original's less {KEPT}")
    return [*lines, f"time           {report.seconds:.0f} s"]
