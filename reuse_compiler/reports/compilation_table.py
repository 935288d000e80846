"""The report of a compilation as a table of the layers and lines of totals, for people."""

from __future__ import annotations

from rich.console import Console

from reuse_compiler.report import LayerReport, ModelReport
from reuse_compiler.reports.table import number, numbers, print_layers, print_lines, speed, words

COLUMNS = [
    *words("layer", "decision", "layout", "family"),
    *numbers("L", "H", "r_c", "cost", "error"),
]


def print_report(report: ModelReport, console: Console) -> None:
    """Prints one row per convolution (a dash stands for what does not apply or was not measured) and totals."""
    print_layers(COLUMNS, report.layers, _cells, console)
    print_lines(totals(report), console)


def totals(report: ModelReport) -> list[str]:
    """Returns the summary: how many layers were rewritten, the error, the times, what they were measured on."""
    rewritten = sum(layer.decision == "reuse" for layer in report.layers)
    lines = ["", f"{rewritten} of {len(report.layers)} convolutions use reuse"]
    if report.rel_error is not None:
        lines.append(f"output error  relative {number(report.rel_error)}, largest {number(report.max_abs_error)}")
    if report.dense_ms is not None and report.reuse_ms is not None:
        lines.append(f"time          {speed(report.dense_ms, report.reuse_ms, report.threads)}")
    if report.verified_on is not None:
        lines.append(f"measured on   {report.verified_on}")
        if report.verified_on.startswith("random"):
            lines.append("              (on real data r_c and the errors differ: give some with --verify-data)")
    if report.fallback:
        lines.append("runs          with the operator library, and as the original where that is missing")
    lines.append(f"written to    {report.output}" if report.output else "nothing was written")
    return lines


def _cells(layer: LayerReport) -> list[str]:
    words = [layer.name, layer.decision, layer.layout or "-", layer.family or "-"]
    return words + [number(n) for n in (layer.L, layer.H, layer.r_c, layer.predicted_cost, layer.output_error)]
