"""Figures of a study of similarity as SVG: r_c against accuracy, and against the layer's error."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from reuse_compiler.errors import ConfigError
from tools.similarity.report import SimilarityPoint, SimilarityReport, StudiedLayer
from tools.similarity.table import ACCURACIES, CurveKey, curves_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#888888")
"""Okabe and Ito's, which people with colour blindness can tell apart; one for each scope and length."""
DASHES = {"angular": "-", "euclidean": "--"}
MARKERS = {"image": "o", "batch": "s"}
TITLES = {"kmeans": "K-means", "hypercube": "Hyper-Cube", "lsh": "LSH"}
WIDTH, HEIGHT = 4.0, 3.0
"""Inches of one diagram."""
LEAST_WIDTH, ENTRY_WIDTH = 7.2, 2.35
"""Inches of a figure, so that its legend fits in, and of an entry of the legend."""


def import_matplotlib() -> None:
    """Raises ConfigError, which says how to get it, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError("the figures of a study need matplotlib: `pip install 'reuse-compiler[report]'`") from error


def layer_figure(report: SimilarityReport, layer: StudiedLayer) -> str:
    """Returns an <svg> element: a column per method, accuracy (if there is one) above the layer's error."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    curves = curves_of(layer)
    methods = list(dict.fromkeys(key[0] for key in curves))
    rows = 1 if report.accuracy is None else 2
    # Without a salt of our own the ids inside differ from run to run; text stays text, so that it can be searched.
    with rc_context({"svg.hashsalt": layer.name, "svg.fonttype": "none", "font.size": 9}):
        width = max(LEAST_WIDTH, WIDTH * len(methods))
        figure = Figure(figsize=(width, HEIGHT * rows + 0.9), layout="constrained")
        axes: Any = figure.subplots(rows, len(methods), squeeze=False, sharex=True, sharey="row")
        colours = _colours(curves)
        for column, method in enumerate(methods):
            own = {key: points for key, points in curves.items() if key[0] == method}
            if report.accuracy is not None:
                _draw(axes[0][column], own, colours, "accuracy")
                axes[0][column].axhline(report.original, color="#888888", linewidth=0.8, label="original network")
            _draw(axes[-1][column], own, colours, "output_error")
            axes[-1][column].set_yscale("log")
            axes[-1][column].set_xlabel("remaining ratio $r_c$")
            axes[0][column].set_title(TITLES.get(method, method))
        if report.accuracy is not None:
            axes[0][0].set_ylabel(ACCURACIES[report.accuracy])
        axes[-1][0].set_ylabel("relative error of the layer's result")
        entries: dict[str, Any] = {}
        for handle, label in (pair for ax in axes.flat for pair in zip(*ax.get_legend_handles_labels(), strict=True)):
            entries.setdefault(label, handle)
        figure.legend(
            entries.values(), entries.keys(), loc="outside lower center", ncols=int(width / ENTRY_WIDTH), frameon=False
        )
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


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
            markersize=3,
            linewidth=1.2,
            label=f"{scope}-{granularity}-{metric}",
        )
    axes.set_xscale("log")
    axes.grid(color="#dddddd", linewidth=0.5)
