"""A report as a table of the layers and lines of totals, for people."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reuse_compiler.report import LayerReport, ModelReport

WIDE = 140
"""Columns of a terminal from which on the reasons stand in the table; in a narrower one those that matter follow it."""
NUMBERS = ("L", "H", "r_c", "predicted cost", "output error")


def print_report(report: ModelReport, console: Console) -> None:
    """Prints table and totals; a pipe gets lines as long as they need to be (unless COLUMNS says otherwise)."""
    if report.layers:
        print_layers(lambda with_reasons: layer_table(report, with_reasons), _dense_layers(report), console)
    print_lines(totals(report), console)


def print_layers(make_table: Callable[[bool], Table], dense: Mapping[str, str], console: Console) -> None:
    """Prints the table of layers, `make_table(with_reasons)`, as wide as the console lets it be.

    In a narrow terminal the reasons of the layers that stay dense (by layer) follow it instead.
    """
    limited = console.is_terminal or "COLUMNS" in os.environ
    narrow = limited and console.width < WIDE
    table = make_table(not narrow)
    if not limited:
        unlimited = console.options.update(width=10_000, max_width=10_000)
        console.width = console.measure(table, options=unlimited).maximum
    console.print(table)
    if narrow:
        _print_reasons(dense, console)


def print_lines(lines: Sequence[str], console: Console) -> None:
    """Prints lines as they are, however long."""
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def layer_table(report: ModelReport, with_reasons: bool = True) -> Table:
    """Returns one row per convolution; a dash stands for what does not apply or was not measured."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "decision", "layout", "family"):
        table.add_column(name, overflow="fold")
    for name in NUMBERS:
        table.add_column(name, justify="right")
    if with_reasons:
        table.add_column("reason", overflow="fold")
    for layer in report.layers:
        style = None if layer.decision == "reuse" else "dim"
        cells = [*_cells(layer), *([layer.reason] if with_reasons else [])]
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


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
    lines.append(f"written to    {report.output}" if report.output else "nothing was written")
    return lines


def number(value: float | int | None) -> str:
    """Returns a number with two significant digits, or whole if it has more before the point; None as a dash."""
    if value is None:
        return "-"
    return f"{value:.2g}" if abs(value) < 10 and isinstance(value, float) else f"{value:.0f}"


def speed(dense: float, reuse: float, threads: int | None) -> str:
    """Returns both times in words, with their ratio."""
    ratio = f"{dense / reuse:.2f} times as fast" if reuse <= dense else f"{reuse / dense:.2f} times as slow"
    return f"{dense:.3g} ms before, {reuse:.3g} ms after: {ratio}, {threads} thread{'' if threads == 1 else 's'}"


def _cells(layer: LayerReport) -> list[str]:
    words = [layer.name, layer.decision, layer.layout or "-", layer.family or "-"]
    return words + [number(n) for n in (layer.L, layer.H, layer.r_c, layer.predicted_cost, layer.output_error)]


def _dense_layers(report: ModelReport) -> dict[str, str]:
    return {layer.name: layer.reason for layer in report.layers if layer.decision == "dense"}


def _print_reasons(dense: Mapping[str, str], console: Console) -> None:
    """Prints why layers stay dense, each reason once, after the layers that it holds for."""
    layers: dict[str, list[str]] = {}
    for name, reason in dense.items():
        layers.setdefault(reason, []).append(name)
    if layers:
        console.print("\nWhy layers stay dense:", style="bold")
    for reason, names in layers.items():
        console.print(Text.assemble((", ".join(names), "bold"), f": {reason}"))
