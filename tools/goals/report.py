"""What the table of goals tells. Times are milliseconds of one run."""

from __future__ import annotations

from typing import Literal

from reuse_compiler.benchmark.report import ConvReport, Machine, Report, ThreadTimes


class MachinePeaks(Report):
    """What the machine does at best, at the threads of the benchmark."""

    threads: int
    multiply_adds_per_second: float
    """Of float32, by onnxruntime's MatMul of square matrices."""
    cached_bytes_per_second: float
    """Read and written by copies within the L2 cache, in NumPy."""
    memory_bytes_per_second: float
    """The same out of the caches."""


class FloorStage(Report):
    """Least work of a stage, and the time in which the machine's peaks allow it."""

    multiply_adds: float
    """Or comparisons or additions, which cost as much."""
    cached_bytes: float
    memory_bytes: float
    ms: float
    """The largest of the three, each divided by its peak."""


class Floor(Report):
    """The least time of a layer: its stages follow one another, and each takes at least its floor."""

    dense_ms: float
    """Least time of the dense convolution, in float32 and computed directly."""
    hash: FloorStage
    cluster: FloorStage
    gemm: FloorStage
    gather: FloorStage
    total_ms: float


class TableRow(Report):
    """A row of the table of goals."""

    layer: str
    setting: str
    goal: float
    """Least speed-up over the dense Conv; in the row for threads, over one thread."""
    speedup: float | None = None
    reached: bool | None = None
    skipped: str | None = None
    """Why it was not measured."""
    report: ConvReport | None = None
    floor: Floor | None = None
    scaling: ThreadTimes | None = None


class TableReport(Report):
    """All rows of the table of goals."""

    version: Literal[1] = 1
    threads: int
    repeats: int
    peaks: MachinePeaks
    rows: list[TableRow]
    machine: Machine
