"""A study of similarity as one self-contained HTML page."""

from __future__ import annotations

from html import escape

from reuse_compiler.reports.table import number
from tools.similarity.figures import layer_figure
from tools.similarity.report import SimilarityReport, StudiedLayer
from tools.similarity.table import ACCURACIES, granularity

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; color: #222; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .8rem; text-align: right; border-bottom: 1px solid #eee; }
th:nth-child(-n+4), td:nth-child(-n+4) { text-align: left; }
summary { cursor: pointer; }
.note { color: #666; }
"""
COLUMNS = ("method", "scope", "vectors", "distance", "effort", "r_c", "accuracy", "layer error")
EXPLANATION = (
    "In each diagram one layer alone is computed from the centroids of clusters of its neuron vectors, the rest of the "
    "network as it is. r_c is the number of clusters by that of vectors. Scope: clusters of each image, or of a batch. "
    "Vectors: whole rows of the unfolded input, or pieces of them. LSH gives the same clusters by either distance."
)


def study_page(report: SimilarityReport) -> str:
    """Returns the page; it needs nothing from outside."""
    title = f"Similarity of neuron vectors: {escape(report.model)}"
    original = "" if report.original is None else f"; of the original network {report.original:.4f}"
    accuracy = "" if report.accuracy is None else f"<p>Accuracy: {ACCURACIES[report.accuracy]}{original}.</p>"
    body = "\n".join(_layer(report, layer) for layer in report.layers)
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{escape(report.data)}</p>\n{accuracy}\n"
        f'<p>{EXPLANATION}</p>\n{body}\n<p class="note">{report.seconds:.0f} s; {escape(versions)}</p>\n</body>\n'
        "</html>\n"
    )


def _layer(report: SimilarityReport, layer: StudiedLayer) -> str:
    rows = "\n".join(_row(cells) for cells in _cells(layer))
    header = "".join(f"<th>{name}</th>" for name in COLUMNS)
    left_out = "".join(f"<li>{escape(sentence)}</li>" for sentence in layer.left_out)
    left_out = f'<p class="note">Left out:</p><ul class="note">{left_out}</ul>\n' if left_out else ""
    return (
        f"<h2>{escape(layer.name)}</h2>\n<p>N={layer.N} per batch, K={layer.K}, M={layer.M}</p>\n"
        f"<figure>{layer_figure(report, layer)}</figure>\n{left_out}"
        f"<details><summary>All {len(layer.points)} points</summary>\n"
        f"<table><thead><tr>{header}</tr></thead><tbody>\n{rows}\n</tbody></table></details>"
    )


def _cells(layer: StudiedLayer) -> list[list[str]]:
    return [
        [
            point.method,
            point.scope,
            granularity(point),
            point.metric,
            f"{point.effort:g}",
            f"{point.r_c:.4f}",
            "-" if point.accuracy is None else f"{point.accuracy:.4f}",
            number(point.output_error),
        ]
        for point in layer.points
    ]


def _row(cells: list[str]) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
