"""What the table of goals tells. Times are milliseconds of one run."""

from __future__ import annotations

from typing import Literal

from reuse_compiler.benchmark.report import Machine, MachinePeaks, Report, StageTimes, ThreadTimes


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
