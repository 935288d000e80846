"""Figures of a study of similarity: r_c against accuracy, and against the layer's error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reuse_compiler.reports.figures import MUTED, SERIES, Picture, draw, make_logarithmic
from tools.similarity.report import SimilarityPoint, SimilarityReport, StudiedLayer
from tools.similarity.table import ACCURACIES, CurveKey, curves_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (*SERIES, MUTED)
"""One for each scope and length."""
DASHES = {"angular": "-", "euclidean": "--"}
MARKERS = {"image": "o", "batch": "s"}
TITLES = {"kmeans": "K-means", "hypercube": "Hyper-Cube", "lsh": "LSH"}
WIDTH, HEIGHT = 340, 230
"""Of one diagram."""
LEAST_WIDTH, ENTRY_WIDTH = 560, 200
"""Of a figure, so that its legend fits in, and of an entry of the legend."""


def layer_figure(report: SimilarityReport, layer: StudiedLayer) -> Picture:
    """Draws a column per method, accuracy (if there is one) above the layer's error."""
    curves = curves_of(layer)
    methods = list(dict.fromkeys(key[0] for key in curves))
    rows = 1 if report.accuracy is None else 2
    width = max(LEAST_WIDTH, WIDTH * len(methods))

    def paint(figure: Figure) -> None:
        axes: Any = figure.subplots(rows, len(methods), squeeze=False, sharex=True, sharey="row")
        colours = _colours(curves)
        make_logarithmic(axes[0][0], "x", [p.r_c for p in layer.points])
        # Reuse that loses nothing has no place on this axis.
        make_logarithmic(axes[-1][0], "y", [p.output_error for p in layer.points if p.output_error > 0] or [1.0])
        for column, method in enumerate(methods):
            own = {key: points for key, points in curves.items() if key[0] == method}
            if report.accuracy is not None:
                _draw(axes[0][column], own, colours, "accuracy")
                axes[0][column].axhline(report.original, color=MUTED, linewidth=1.0, label="original network")
            _draw(axes[-1][column], own, colours, "output_error")
            axes[-1][column].set_xlabel("remaining ratio r_c")
            axes[0][column].set_title(TITLES.get(method, method))
        if report.accuracy is not None:
            axes[0][0].set_ylabel(ACCURACIES[report.accuracy])
        axes[-1][0].set_ylabel("relative error of the layer's result")
        entries: dict[str, Any] = {}
        for handle, label in (pair for ax in axes.flat for pair in zip(*ax.get_legend_handles_labels(), strict=True)):
            entries.setdefault(label, handle)
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=width // ENTRY_WIDTH)

    words = f"Remaining ratio against the error of {layer.name}" + (" and the accuracy" if rows == 2 else "")
    return draw(width, HEIGHT * rows + 70, paint, f"{words}; all points stand in the table below")


def _colours(curves: dict[CurveKey, list[SimilarityPoint]]) -> dict[tuple[str, int], str]:
    kinds = dict.fromkeys((scope, length) for _, scope, length, _ in curves)
    return {kind: COLOURS[index % len(COLOURS)] for index, kind in enumerate(kinds)}


def _draw(
    axes: Axes, curves: dict[CurveKey, list[SimilarityPoint]], colours: dict[tuple[str, int], str], what: str
) -> None:
    """Draws curves of one method; in the legend they are called as in the paper, scope-granularity-distance."""
    for (_, scope, length, metric), points in curves.items():
        granularity = "whole" if points[0].whole else f"sub {length}"
        axes.plot(
            [point.r_c for point in points],
            [getattr(point, what) for point in points],
            color=colours[scope, length],
            linestyle=DASHES[metric],
            marker=MARKERS[scope],
            markersize=4,
            linewidth=1.4,
            label=f"{scope}-{granularity}-{metric}",
        )
