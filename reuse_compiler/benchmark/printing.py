"""The reports of `reuse-bench` as tables for people. Computes nothing but ratios of what is in them."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reuse_compiler.benchmark.report import (
    ConvReport,
    Machine,
    ModelComparison,
    ModelTimes,
    StageTimes,
    TableReport,
    TableRow,
    Timing,
)

STAGES = tuple(StageTimes.model_fields)
STAGED_OPERATORS = ("Hash", "Cluster", "CentroidGemm", "Gather")
PROFILED_NODES = 30
"""So many layers are printed at most, the slowest; all are in the JSON file."""


def print_conv(report: ConvReport, console: Console) -> None:
    """Prints everything measured of one convolution."""
    r, s = report, report.setting
    _line(
        console,
        f"{r.layer.name}, {_where(r)}, {r.repeats} run{'' if r.repeats == 1 else 's'} of each in turn",
        "bold",
    )
    _line(console, f"family {s.family}, layout {s.layout}, L={s.L}, H={s.H}, {s.table} tables, order {s.order}")
    distinct = sorted({*r.distinct_per_block})
    counts = f"{distinct[0]}" if len(distinct) == 1 else f"{distinct[0]} to {distinct[-1]}"
    blocks = f"in each of {len(r.distinct_per_block)} blocks" if len(r.distinct_per_block) > 1 else "in one block"
    _line(console, f"r_c {r.r_c:.4f} measured, {s.asked_r_c:g} asked: {counts} distinct vectors {blocks}")
    if r.cells:
        _line(console, f"input of {r.cells}")
    for note in r.notes:
        _line(console, f"note: {note}", "yellow")
    console.print()
    console.print(_forms_table(r))
    _line(console, "GFLOP/s: the dense convolution's operations over the form's time", "dim")
    if r.predicted_speedup is not None:
        _line(console, f"the cost model predicts a speed-up of {r.predicted_speedup:.2f} for the fused form", "dim")
    if r.int8:
        _line(console, f"int8: onnxruntime's {r.int8.form}; inner nodes: without those from and to float", "dim")
    console.print()
    console.print(_stages_table(r))
    console.print()
    _print_floor(r, console)
    _print_machine(r.machine, console)


def print_comparison(report: ModelComparison, console: Console) -> None:
    """Prints errors, times and the profile of two models."""
    where = _threads(report.threads) if report.provider == "cpu" else "CUDA"
    _line(console, f"{where}, measured on {report.measured_on}", "bold")
    console.print()
    table = _table("", "model", "ms", "fastest", "speed-up", left=2)
    for label, times in (("A", report.first), ("B", report.second)):
        t = times.timing
        table.add_row(label, times.model, f"{t.median_ms:.3g}", f"{t.fastest_ms:.3g}", f"{t.speedup:.2f}")
    console.print(table)
    console.print()
    errors = _table("output", "relative error of B", "largest", left=1)
    for each in report.differences:
        errors.add_row(each.output, f"{each.relative_error:.2g}", f"{each.max_abs_error:.2g}")
    console.print(errors)
    console.print()
    console.print(_profile_table(report))
    for label, times in (("A", report.first), ("B", report.second)):
        if times.reuse_nodes:
            console.print()
            console.print(_reuse_table(label, times))
    _print_machine(report.machine, console)


def print_goals(report: TableReport, console: Console) -> None:
    """Prints one line per goal."""
    headings = (
        "goal",
        "speed-up",
        "predicted",
        "dense ms",
        "fused ms",
        "floor ms",
        "error",
        "int8 speed-up",
        "int8 error",
    )
    table = _table("layer", "setting", "result", *headings, left=3)
    for row in report.rows:
        table.add_row(row.layer, row.setting, *_goal_cells(row), style="dim" if row.skipped else None)
    console.print(table)
    _line(console, f"{_threads(report.threads)}, medians of {report.repeats} runs in turn; int8: onnxruntime's", "dim")
    _print_machine(report.machine, console)


def _goal_cells(row: TableRow) -> list[str]:
    goal = f"{row.goal:.1f}"
    if row.speedup is None:
        return [f"skipped: {row.skipped}", goal]
    cells = ["reached" if row.reached else "missed", goal, f"{row.speedup:.2f}"]
    if row.scaling:
        dense = row.scaling.dense_ms
        cells[0] += f" (the dense Conv: {dense[0] / dense[-1]:.2f})"
    if r := row.report:
        floor_ms = r.floor.total_ms if r.floor else None
        cells += [_number(x) for x in (r.predicted_speedup, r.dense.median_ms, r.fused.median_ms, floor_ms)]
        cells.append(f"{r.fused.relative_error:.1g}")
        cells += [f"{r.int8.speedup:.2f}", f"{r.int8.relative_error:.1g}"] if r.int8 else ["-", "-"]
    return cells


def _forms_table(r: ConvReport) -> Table:
    table = _table("form", "ms", "fastest", "speed-up", "GFLOP/s", "relative error", "scratch MB", left=1)

    def add(form: str, timing: Timing, *rest: str) -> None:
        gflops = "-" if timing.gflops is None else f"{timing.gflops:.1f}"
        times = (f"{timing.median_ms:.3f}", f"{timing.fastest_ms:.3f}", f"{timing.speedup:.2f}")
        table.add_row(form, *times, gflops, *rest)

    add("dense", r.dense, "-", "-")
    for form, reuse in (("staged", r.staged), ("fused", r.fused)):
        if reuse is not None:
            add(form, reuse, f"{reuse.relative_error:.2g}", f"{reuse.scratch_bytes / 1e6:.1f}")
    if r.int8 is not None:
        add("int8", r.int8, f"{r.int8.relative_error:.2g}", "-")
        convolution, speedup = r.int8.convolution_ms, r.dense.median_ms / r.int8.convolution_ms
        table.add_row("  inner nodes", f"{convolution:.3f}", "-", f"{speedup:.2f}", "-", "-", "-", style="dim")
    return table


def _stages_table(r: ConvReport) -> Table:
    # The stages of the staged form are timed on the CPU only.
    staged = r.staged if r.provider == "cpu" else None
    floor = ["floor ms"] if r.floor else []
    table = _table("stage", *floor, "fused ms", *(["staged ms"] if staged else []), left=1)
    for stage in STAGES:
        cells = [getattr(r.floor, stage).ms] if r.floor else []
        cells.append(getattr(r.fused.stages_ms, stage))
        if staged:
            cells.append(getattr(staged.stages_ms, stage))
        table.add_row(stage, *(f"{cell:.3f}" for cell in cells))
    return table


def _print_floor(r: ConvReport, console: Console) -> None:
    floor, peaks = r.floor, r.peaks
    if floor is None or peaks is None:
        return
    _line(
        console,
        f"floor {floor.total_ms:.3f} ms: the fused form takes {r.fused.median_ms / floor.total_ms:.2f} times as long, "
        f"and at the floor it would be {r.dense.median_ms / floor.total_ms:.2f} times as fast as the dense one",
    )
    if r.centroid_gflops is not None:
        _line(console, f"centroid products at {r.centroid_gflops:.1f} GFLOP/s")
    copies = f"{1e-9 * peaks.cached_bytes_per_second:.0f} GB/s in L2, {1e-9 * peaks.memory_bytes_per_second:.0f} beyond"
    products = f"{2e-9 * peaks.multiply_adds_per_second:.0f} GFLOP/s"
    _line(console, f"peaks of {_threads(peaks.threads)}: matrix products {products}, copies {copies}")


def _profile_table(report: ModelComparison) -> Table:
    """Time by layer of the model files in both models, slowest first."""
    reuse = {node.node for times in (report.first, report.second) for node in times.reuse_nodes}
    sums: dict[str, list[float]] = {}
    ops: dict[str, dict[str, None]] = {}
    for index, times in enumerate((report.first, report.second)):
        for node in times.nodes:
            # The nodes of the staged form are called <layer>/Hash and so on.
            staged = node.layer in reuse and node.op in STAGED_OPERATORS
            layer = node.layer.rpartition("/")[0] if staged else node.layer
            sums.setdefault(layer, [0.0, 0.0])[index] += node.ms
            ops.setdefault(layer, {})[node.op] = None
    table = _table("layer", "operators", "A ms", "B ms", left=2)
    slowest = sorted(sums, key=lambda layer: max(sums[layer]), reverse=True)
    for layer in slowest[:PROFILED_NODES]:
        table.add_row(Text(layer), ", ".join(ops[layer]), *(f"{ms:.3f}" if ms else "-" for ms in sums[layer]))
    left = slowest[PROFILED_NODES:]
    if left:
        table.add_row(f"{len(left)} more", "", *(f"{sum(sums[layer][i] for layer in left):.3f}" for i in (0, 1)))
    return table


def _reuse_table(label: str, times: ModelTimes) -> Table:
    table = _table(
        f"reuse nodes of {label}", "r_c", "guarded", *(f"{stage} ms" for stage in STAGES), "scratch MB", left=1
    )
    for node in times.reuse_nodes:
        ratio = "-" if node.r_c is None else f"{node.r_c:.3f}"
        stages = (f"{getattr(node.stages_ms, stage):.3f}" for stage in STAGES)
        table.add_row(Text(node.node), ratio, f"{node.guarded:.0f}", *stages, f"{node.scratch_bytes / 1e6:.1f}")
    return table


def _print_machine(machine: Machine, console: Console) -> None:
    isa = f", REUSE_ISA={machine.forced_isa}" if machine.forced_isa else ""
    runtime = f"onnxruntime {machine.versions['onnxruntime']}, operators {machine.versions['operators']}"
    _line(console, f"{machine.processor}, {machine.processors} processors{isa}, {runtime}", "dim")


def _table(*headings: str, left: int) -> Table:
    """A table whose first `left` columns are words and whose others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < left else "right", overflow="fold")
    return table


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _where(r: ConvReport) -> str:
    if r.provider == "cpu":
        return _threads(r.threads)
    return f"CUDA, TF32 {'on' if r.tf32 else 'off'}"


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style), soft_wrap=True)
