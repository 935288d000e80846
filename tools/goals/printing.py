"""The table of goals for people."""

from __future__ import annotations

from rich.console import Console

from reuse_compiler.benchmark.printing import print_line, print_machine, thread_count
from reuse_compiler.reports.table import Row, numbers, print_table, words
from tools.goals.report import MachinePeaks, TableReport, TableRow

COLUMNS = [
    *words("layer", "setting", "result"),
    *numbers(
        "goal", "speed-up", "predicted", "dense ms", "fused ms", "floor ms", "error", "int8 speed-up", "int8 error"
    ),
]


def print_goals(report: TableReport, console: Console) -> None:
    """Prints one line per goal."""
    rows = [Row([row.layer, row.setting, *_goal_cells(row)], style="dim" if row.skipped else "") for row in report.rows]
    print_table(COLUMNS, rows, console)
    print_line(
        console, f"{thread_count(report.threads)}, medians of {report.repeats} runs in turn; int8: onnxruntime's", "dim"
    )
    print_line(console, _peaks(report.peaks))
    print_machine(report.machine, console)


def _goal_cells(row: TableRow) -> list[str]:
    goal = f"{row.goal:.1f}"
    if row.speedup is None:
        return [f"skipped: {row.skipped}", goal]
    cells = ["reached" if row.reached else "missed", goal, f"{row.speedup:.2f}"]
    if row.scaling:
        dense = row.scaling.dense_ms
        cells[0] += f" (the dense Conv: {dense[0] / dense[-1]:.2f})"
    if r := row.report:
        floor_ms = row.floor.total_ms if row.floor else None
        cells += [_number(x) for x in (r.predicted_speedup, r.dense.median_ms, r.fused.median_ms, floor_ms)]
        cells.append(f"{r.fused.relative_error:.1g}")
        cells += [f"{r.int8.speedup:.2f}", f"{r.int8.relative_error:.1g}"] if r.int8 else ["-", "-"]
    return cells


def _peaks(peaks: MachinePeaks) -> str:
    products = f"{2e-9 * peaks.multiply_adds_per_second:.0f} GFLOP/s"
    copies = f"{1e-9 * peaks.cached_bytes_per_second:.0f} GB/s in L2, {1e-9 * peaks.memory_bytes_per_second:.0f} beyond"
    return f"peaks of {thread_count(peaks.threads)}: matrix products {products}, copies {copies}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
