"""The table of goals: layers, settings and the least speed-up over onnxruntime's Conv that each shall have."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from reuse_compiler.benchmark.case import BenchScope, ConvCase, make_case
from reuse_compiler.benchmark.conv import Circumstances, measure_conv, measure_threads
from reuse_compiler.benchmark.peaks import measure_peaks
from reuse_compiler.benchmark.printing import STAGES
from reuse_compiler.benchmark.quantised_conv import measure_quantised
from reuse_compiler.benchmark.report import StageTimes, describe_machine
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.config import TableType
from tools.goals.report import LayerTimes, TableReport, TableRow

QUICK_REPEATS = 5
NUM_HASHES = 8
"""Of static rows, whose 256 clusters are all that codes can tell apart."""
MANY_THREADS, THREADS_GOAL = 2, 1.8


@dataclass(frozen=True)
class Goal:
    """One row: `channels` in and out, `size` is height and width."""

    channels: tuple[int, int]
    kernel: int
    size: int
    sub_vector_length: int
    least: float
    remaining_ratio: float | None = None
    clusters: int | None = None
    """Clusters per block, where the row says them instead of r_c."""
    batch: int = 1
    table: TableType = "float"
    scope: BenchScope = "batch"
    least_over_int8: float | None = None
    """What onnxruntime's int8 Conv shall take at least, over the fused form's time."""
    quantised: bool = False
    """Whether bytes are measured, beside onnxruntime's QLinearConv."""

    @property
    def setting(self) -> str:
        amount = f"r_c {self.remaining_ratio:.2f}" if self.clusters is None else f"{self.clusters} clusters per block"
        scope = "" if self.scope == "batch" else f", {self.scope}"
        table = "" if self.table == "float" else f", {self.table} tables"
        of_bytes = ", bytes" if self.quantised else ""
        return f"L={self.sub_vector_length}, {amount}{scope}{table}{of_bytes}"

    @property
    def layer(self) -> str:
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        return f"{self.channels[0]}->{self.channels[1]}, {self.kernel}x{self.kernel}{batch}, {self.size}x{self.size}"

    def case(self) -> ConvCase:
        """The layer with local ids and fitted trees; the output is as large as the input."""
        rows = self.batch * self.size**2
        ratio = self.remaining_ratio if self.clusters is None else self.clusters / rows
        assert ratio is not None
        return make_case(
            input_shape=(self.batch, self.channels[0], self.size, self.size),
            weight_shape=(self.channels[1], self.channels[0], self.kernel, self.kernel),
            sub_vector_length=self.sub_vector_length,
            remaining_ratio=ratio,
            num_hashes=NUM_HASHES if self.scope == "static" else None,
            table=self.table,
            scope=self.scope,
        )


SCALING = Goal((256, 256), 3, 56, 64, 4.0, 0.10)
"""The layer of which two threads shall be THREADS_GOAL times as fast as one."""

GOALS = (
    Goal((256, 256), 3, 56, 256, 6.0, 0.05),
    SCALING,
    Goal((256, 256), 3, 56, 8, 3.5, clusters=256, table="int8"),
    Goal((64, 64), 3, 224, 64, 3.5, 0.05),
    Goal((64, 64), 3, 224, 8, 2.5, clusters=256, table="int8"),
    Goal((128, 128), 3, 112, 32, 3.0, 0.10),
    Goal((512, 512), 3, 28, 64, 3.5, 0.10),
    Goal((3, 64), 3, 224, 27, 2.0, 0.10),
    Goal((64, 64), 5, 16, 16, 3.5, 0.06, batch=32),
)


def _static(
    channels: int, size: int, length: int, least: float, over_int8: float, kernel: int = 3, batch: int = 1
) -> Goal:
    return Goal(
        (channels, channels),
        kernel,
        size,
        length,
        least,
        clusters=2**NUM_HASHES,
        batch=batch,
        table="int8",
        scope="static",
        least_over_int8=over_int8,
    )


STATIC_GOALS = (
    _static(256, 56, 8, 7.0, 1.9),
    _static(128, 112, 8, 6.5, 1.8),
    _static(64, 224, 8, 6.0, 1.7),
    _static(512, 28, 8, 8.5, 2.2, batch=8),
    _static(256, 56, 16, 11.0, 3.0),
    _static(512, 28, 8, 5.0, 1.3),
    _static(64, 16, 4, 4.8, 1.4, kernel=5, batch=64),
)
"""Scope static, which shall be faster than onnxruntime's int8 Conv, too."""

QUANTISED_GOALS = tuple(
    Goal((channels, channels), 3, size, channels, 0.8 / (ratio + 0.06), ratio, quantised=True)
    for channels, size in ((512, 28), (256, 56), (128, 112), (64, 224))
    for ratio in (0.02, 0.1, 0.3, 0.6)
)

STATIC_BYTE_GOALS = tuple(
    replace(goal, least=goal.least_over_int8, least_over_int8=None, quantised=True)
    for goal in STATIC_GOALS
    if goal.least_over_int8 is not None
)
"""Both at once: what is wanted over onnxruntime's int8 Conv is wanted over QLinearConv."""


def measure_goals(
    how: Circumstances, goals: tuple[Goal, ...], scaling: Goal | None, progress: ProgressCallback = silent
) -> TableReport:
    """Measures all rows, and how well the `scaling` layer, if there is one, uses two threads."""
    peaks, rows = measure_peaks(how.threads), []
    for index, goal in enumerate(goals):
        progress("measuring the table", index, len(goals) + 1)
        rows.append(_measure(goal, how))
    if scaling is not None:
        progress("measuring the table", len(goals), len(goals) + 1)
        rows.append(_measure_scaling(scaling, how.repeats))
    return TableReport(threads=how.threads, repeats=how.repeats, peaks=peaks, rows=rows, machine=describe_machine())


def _measure(goal: Goal, how: Circumstances) -> TableRow:
    if goal.quantised:
        report = measure_quantised(goal.case(), how.threads, how.repeats)
    else:
        report = measure_conv(goal.case(), how)
    fused, int8, floor = report.fused, report.int8, report.floor
    over_int8 = int8.median_ms / fused.median_ms if int8 else None
    beats_int8 = goal.least_over_int8 is None or (over_int8 is not None and over_int8 >= goal.least_over_int8)
    return TableRow(
        layer=goal.layer,
        setting=goal.setting,
        goal=goal.least,
        speedup=fused.speedup,
        reached=fused.speedup >= goal.least and beats_int8,
        goal_over_int8=goal.least_over_int8,
        over_int8=over_int8,
        measured=LayerTimes(
            r_c=report.r_c,
            clusters_per_block=report.clusters_per_block,
            predicted_speedup=report.predicted_speedup,
            dense_ms=report.dense.median_ms,
            fused_ms=fused.median_ms,
            stages_ms=fused.stages_ms,
            floor_ms=StageTimes(**{name: getattr(floor, name).ms for name in STAGES}) if floor else None,
            scratch_bytes=fused.scratch_bytes,
            error=fused.relative_error,
            int8_speedup=int8.speedup if int8 else None,
            int8_error=int8.relative_error if int8 else None,
        ),
    )


def _measure_scaling(goal: Goal, repeats: int) -> TableRow:
    setting = f"{goal.setting}: {MANY_THREADS} threads against 1"
    row = TableRow(layer=goal.layer, setting=setting, goal=THREADS_GOAL)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if processors < MANY_THREADS:
        return row.model_copy(update={"skipped": f"this machine gives {processors} processor"})
    times = measure_threads(goal.case(), (1, MANY_THREADS), repeats)
    speedup = times.fused_ms[0] / times.fused_ms[1]
    return row.model_copy(update={"speedup": speedup, "reached": speedup >= THREADS_GOAL, "scaling": times})
