"""What the table of goals tells, and how it is printed. Times are milliseconds of one run."""

from __future__ import annotations

from typing import Literal

from rich.console import Console

from reuse_compiler.benchmark.printing import print_line, print_machine, print_peaks, thread_count
from reuse_compiler.benchmark.report import Machine, MachinePeaks, StageTimes, ThreadTimes
from reuse_compiler.report import Report
from reuse_compiler.reports.table import Row, numbers, print_table, words


class LayerTimes(Report):
    """What the row of a layer tells; `reuse-bench conv --json` writes more of a single one."""

    r_c: float
    clusters_per_block: float
    predicted_speedup: float | None
    """What the cost model expects at that r_c."""
    dense_ms: float
    fused_ms: float
    stages_ms: StageTimes
    """Of the fused form."""
    floor_ms: StageTimes | None
    """The least time of each stage; they follow one another. None: it is not known of bytes."""
    scratch_bytes: int
    error: float
    int8_speedup: float | None = None
    int8_error: float | None = None


class TableRow(Report):
    """A row of the table of goals."""

    layer: str
    setting: str
    goal: float
    """Least speed-up over the dense Conv; in the row for threads, over one thread."""
    speedup: float | None = None
    goal_over_int8: float | None = None
    """Least speed-up over onnxruntime's int8 Conv, where there is a goal for it."""
    over_int8: float | None = None
    reached: bool | None = None
    skipped: str | None = None
    """Why it was not measured."""
    measured: LayerTimes | None = None
    scaling: ThreadTimes | None = None


class TableReport(Report):
    """All rows of the table of goals."""

    version: Literal[1] = 1
    threads: int
    repeats: int
    peaks: MachinePeaks
    rows: list[TableRow]
    machine: Machine


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
    print_peaks(report.peaks, console)
    print_machine(report.machine, console)


def _goal_cells(row: TableRow) -> list[str]:
    goal = f"{row.goal:.1f}" if row.goal_over_int8 is None else f"{row.goal:.1f}, {row.goal_over_int8:.1f} over int8"
    if row.speedup is None:
        return [f"skipped: {row.skipped}", goal]
    cells = ["reached" if row.reached else "missed", goal, f"{row.speedup:.2f}"]
    if row.scaling:
        dense = row.scaling.dense_ms
        cells[0] += f" (the dense Conv: {dense[0] / dense[-1]:.2f})"
    if m := row.measured:
        floor_ms = sum(m.floor_ms.model_dump().values()) if m.floor_ms else None
        cells += [_number(x) for x in (m.predicted_speedup, m.dense_ms, m.fused_ms, floor_ms)]
        cells += [f"{m.error:.1g}", _number(m.int8_speedup), _number(m.int8_error, ".1g")]
    return cells


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)
