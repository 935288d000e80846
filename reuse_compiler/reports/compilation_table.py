"""The report of a compilation as a table of the layers and lines of totals, for people."""

from __future__ import annotations

from functools import partial

from rich.console import Console

from reuse_compiler.report import HoldReport, LayerReport, ModelReport, RegionReport
from reuse_compiler.reports.table import number, numbers, print_layers, print_lines, speed, words

COLUMNS = [
    *words("layer", "decision", "layout", "family"),
    *numbers("L", "H", "r_c", "cost", "error"),
]
TABLES = numbers("tables MiB")
"""If there are static layers."""

NO_CONVOLUTION = "the model has no convolution, so there is nothing to rewrite"


def print_report(report: ModelReport, console: Console) -> None:
    """Prints one row per convolution (a dash stands for what does not apply or was not measured) and totals."""
    tables = any(layer.table_bytes is not None for layer in report.layers)
    print_layers([*COLUMNS, *TABLES] if tables else COLUMNS, report.layers, partial(_cells, tables=tables), console)
    print_lines(totals(report), console)


def totals(report: ModelReport) -> list[str]:
    """Returns the summary: how many layers were rewritten, the error, the times, what they were measured on."""
    rewritten = sum(layer.decision == "reuse" for layer in report.layers)
    where = ", in runs whose input repeats enough:" if report.regions else ""
    use = f"{rewritten} of {len(report.layers)} convolutions use reuse{where}" if report.layers else NO_CONVOLUTION
    lines = ["", use, *map(_region, report.regions)]
    if report.rel_error is not None:
        lines.append(f"output error  relative {number(report.rel_error)}, largest {number(report.max_abs_error)}")
    if report.dense_ms is not None and report.reuse_ms is not None:
        lines.append(f"time          {speed(report.dense_ms, report.reuse_ms, report.threads)}")
    if report.repeating_ms is not None:
        lines.append(f"  if repeating  {speed(*report.repeating_ms, report.threads)} (three quarters are blank)")
    if report.verified_on is not None:
        lines.append(f"measured on   {report.verified_on}")
        if report.verified_on.startswith("random"):
            lines.append("              (on real data r_c and the errors differ: give some with --verify-data)")
    if report.added_bytes:
        lines.append(f"memory        {report.added_bytes / 1e6:.3g} MB more, for two forms (--single writes one)")
    lines += _tables(report)
    incremental = sum(layer.incremental is True for layer in report.layers)
    if incremental:
        lines.append(f"stream        {incremental} layers keep what they have computed and compute what has changed")
    lines += _hold(report.hold)
    if report.fallback and report.output:
        lines.append("runs          with the operator library, and as the original where that is missing")
    same = "" if rewritten else ", which computes as the original does"
    lines.append(f"written to    {report.output}{same}" if report.output else "nothing was written")
    return lines


def _region(region: RegionReport) -> str:
    """Returns the line of a part with two forms."""
    how = "measured" if region.measured else "expected"
    saves = f"saves up to {region.saves:.0%} of their time ({how})"
    return f"  {len(region.layers)} where {region.needed:.0%} of '{region.source}' repeats; {saves}"


def _tables(report: ModelReport) -> list[str]:
    """Returns the lines about the tables of static layers, if there are any."""
    own = [layer for layer in report.layers if layer.table_bytes is not None]
    if not own:
        return []
    lines = [f"tables        {number(report.table_bytes / 2**20)} MiB of static layers, kept by sessions"]
    made = [f"'{layer.name}'" for layer in own if not layer.keeps_tables]
    if made:
        lines.append(f"              (made in each run, for want of --table-memory: {', '.join(made)})")
    return lines


def _hold(hold: HoldReport | None) -> list[str]:
    """Returns the lines about inputs that are held, if they are."""
    if hold is None:
        return []
    most = ", ".join(f"{tolerance:g}" for tolerance in hold.tolerances)
    pixels = f"pixels of {' and '.join(map(repr, hold.inputs))}"
    lines = [f"hold          {pixels} that differ by up to {most} keep their value"]
    if hold.frames is None:
        return [*lines, "              (what that costs is not known: give frames in their order with --verify-data)"]
    named = (("held input", hold.input_psnr), ("outputs", hold.output_psnr))
    psnr = ", ".join(f"{name} {value:.1f} dB" for name, value in named if value is not None)
    return [*lines, f"              {hold.changed:.1%} of the pixels of {hold.frames} frames change; {psnr}"]


def _cells(layer: LayerReport, tables: bool) -> list[str]:
    words = [layer.name, layer.decision, layer.layout or "-", layer.family or "-"]
    values = [layer.L, layer.H, layer.r_c, layer.predicted_cost, layer.output_error]
    if tables:
        values.append(None if layer.table_bytes is None else layer.table_bytes / 2**20)
    return words + list(map(number, values))
