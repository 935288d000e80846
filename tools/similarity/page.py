"""A study of similarity as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from reuse_compiler.reports.page import render
from reuse_compiler.reports.table import number
from tools.similarity.figures import layer_figure
from tools.similarity.report import SimilarityReport
from tools.similarity.table import ACCURACIES, granularity

TEMPLATE = Path(__file__).with_name("page.html")


def study_page(report: SimilarityReport) -> str:
    """Returns the page; raises OutputError without the extra `report`."""
    return render(
        TEMPLATE,
        report=report,
        accuracy=None if report.accuracy is None else ACCURACIES[report.accuracy],
        layers=[(layer, layer_figure(report, layer) if layer.points else None) for layer in report.layers],
        granularity=granularity,
        number=number,
    )
