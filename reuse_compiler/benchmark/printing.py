"""The reports of `reuse-bench` as tables for people. Computes nothing but ratios of what is in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from reuse_compiler.benchmark.report import (
    ConvReport,
    Machine,
    MachinePeaks,
    ModelComparison,
    ModelTimes,
    NodeTime,
    StageTimes,
    Timing,
    WorstCase,
)
from reuse_compiler.reports.table import LEGEND, Row, number, numbers, print_lines, print_table, words
from reuse_compiler.verification.timing import ms_words

STAGES = tuple(StageTimes.model_fields)
STAGED_OPERATORS = ("Hash", "Cluster", "CentroidGemm", "Gather")
PROFILED_NODES = 30
"""So many layers are printed at most, the slowest; all are in the JSON file."""


def print_conv(report: ConvReport, console: Console) -> None:
    """Prints everything measured of one convolution."""
    r, s = report, report.setting
    print_line(
        console,
        f"{r.layer.name}, {_where(r)}, {r.repeats} run{'' if r.repeats == 1 else 's'} of each in turn",
        "bold",
    )
    scope = "" if s.scope == "batch" else f"scope {s.scope}, "
    setting = f"family {s.family}, layout {s.layout}, {scope}L={s.L}, H={s.H}, {s.table} tables, order {s.order}"
    print_line(console, setting)
    distinct = sorted({*r.distinct_per_block})
    counts = f"{distinct[0]}" if len(distinct) == 1 else f"{distinct[0]} to {distinct[-1]}"
    blocks = f"in each of {len(r.distinct_per_block)} blocks" if len(r.distinct_per_block) > 1 else "in one block"
    print_line(console, f"r_c {r.r_c:.4f} measured, {s.asked_r_c:g} asked: {counts} distinct vectors {blocks}")
    if r.cells:
        print_line(console, f"input of {r.cells}")
    for note in r.notes:
        print_line(console, f"note: {note}", "yellow")
    console.print()
    _print_forms(r, console)
    print_line(console, "GFLOP/s: the dense convolution's operations over the form's time", "dim")
    if r.predicted_speedup is not None:
        print_line(
            console, f"the cost model predicts a speed-up of {r.predicted_speedup:.2f} for the fused form", "dim"
        )
    if r.int8:
        print_line(console, f"int8: onnxruntime's {r.int8.form}; inner nodes: without those from and to float", "dim")
    console.print()
    _print_stages(r, console)
    console.print()
    _print_floor(r, console)
    print_machine(r.machine, console)


def print_comparison(report: ModelComparison, console: Console) -> None:
    """Prints errors, times and the profile of two models."""
    where = thread_count(report.threads) if report.provider == "cpu" else "CUDA"
    print_line(console, f"{where}, measured on {report.measured_on}", "bold")
    console.print()
    models = [("A", report.first), ("B", report.second)]
    rows = [
        Row([label, times.model, ms_words(t.median_ms), ms_words(t.fastest_ms), f"{t.speedup:.2f}"])
        for label, times, t in ((label, times, times.timing) for label, times in models)
    ]
    print_table([*words("", "model"), *numbers("ms", "fastest", "speed-up")], rows, console)
    console.print()
    _print_frames(models, console)
    rows = [Row([d.output, f"{d.relative_error:.2g}", f"{d.max_abs_error:.2g}"]) for d in report.differences]
    print_table([*words("output"), *numbers("relative error of B", "largest")], rows, console)
    console.print()
    _print_profile(report, console)
    for label, times in models:
        if times.reuse_nodes:
            console.print()
            _print_reuse_nodes(label, times, console)
    print_machine(report.machine, console)


def _print_frames(models: Sequence[tuple[str, ModelTimes]], console: Console) -> None:
    """Prints frames per second, and what became of kept sums, where the data are a stream."""
    rows = [
        Row([label, f"{f.frames_per_second:.3g}", *map(ms_words, (f.median_ms, f.p95_ms, f.p99_ms))])
        for label, f in ((label, times.frames) for label, times in models)
        if f is not None
    ]
    if rows:
        print_table([*words(""), *numbers("frames/s", "median ms", "95%", "99%")], rows, console)
        console.print()
    for label, times in models:
        kept = [(node.node, node.kept) for node in times.reuse_nodes if node.kept is not None]
        if not kept:
            continue
        rows = [
            Row([name, number(k.changed), number(k.recomputed), str(k.anew), f"{k.state_bytes / 1e6:.1f}"])
            for name, k in kept
        ]
        columns = numbers("changed", "recomputed", "frames anew", "state MB")
        print_table([*words(f"what {label} keeps"), *columns], rows, console)
        console.print()


def print_worst(report: WorstCase, console: Console) -> None:
    """Prints times on data as it is and without repeats: of two models, and of every layer with reuse and its r_c."""
    rows = []
    for label, each in (("as given", report.as_given), ("without repeats", report.without_repeats)):
        first, second = each.first.timing, each.second.timing
        ratio = f"{second.median_ms / first.median_ms:.2f}"
        rows.append(Row([label, ms_words(first.median_ms), ms_words(second.median_ms), ratio]))
    print_table([*words("data"), *numbers("A ms", "B ms", "B / A")], rows, console)
    console.print()
    worst = {node.node: node.r_c for node in report.without_repeats.second.reuse_nodes}
    compared = (report.as_given.first, report.as_given.second, report.without_repeats.second)
    layer_ms = [_layer_ms(times) for times in compared]
    rows = []
    for node in report.as_given.second.reuse_nodes:
        if node.r_c is None:
            continue
        layer = node.node.rpartition("/")[0] if node.op in STAGED_OPERATORS else node.node
        ms = [number(of.get(layer)) for of in layer_ms]
        rows.append(Row([layer, number(node.r_c), number(worst.get(node.node)), *ms]))
    if rows:
        headings = numbers("r_c as given", "without repeats", "A ms", "B ms as given", "without repeats")
        print_table([*words("layer"), *headings], rows, console)
        print_line(console, LEGEND, "dim")
    print_line(console, f"measured on {report.as_given.measured_on}; {thread_count(report.as_given.threads)}")
    print_machine(report.as_given.machine, console)


def _print_forms(r: ConvReport, console: Console) -> None:
    rows = []

    def add(form: str, timing: Timing, *rest: str) -> None:
        gflops = "-" if timing.gflops is None else f"{timing.gflops:.1f}"
        times = (f"{timing.median_ms:.3f}", f"{timing.fastest_ms:.3f}", f"{timing.speedup:.2f}")
        rows.append(Row([form, *times, gflops, *rest]))

    add("dense", r.dense, "-", "-")
    for form, reuse in (("staged", r.staged), ("fused", r.fused)):
        if reuse is not None:
            add(form, reuse, f"{reuse.relative_error:.2g}", f"{reuse.scratch_bytes / 1e6:.1f}")
    if r.int8 is not None:
        add("int8", r.int8, f"{r.int8.relative_error:.2g}", "-")
        convolution, speedup = r.int8.convolution_ms, r.dense.median_ms / r.int8.convolution_ms
        rows.append(Row(["  inner nodes", f"{convolution:.3f}", "-", f"{speedup:.2f}", "-", "-", "-"], style="dim"))
    headings = numbers("ms", "fastest", "speed-up", "GFLOP/s", "relative error", "scratch MB")
    print_table([*words("form"), *headings], rows, console)


def _print_stages(r: ConvReport, console: Console) -> None:
    # The stages of the staged form are timed on the CPU only.
    staged = r.staged if r.provider == "cpu" else None
    columns = {
        "floor ms": {stage: getattr(r.floor, stage).ms for stage in STAGES} if r.floor else None,
        "fused ms": r.fused.stages_ms.model_dump(),
        "staged ms": staged.stages_ms.model_dump() if staged else None,
    }
    known = {heading: times for heading, times in columns.items() if times is not None}
    rows = [Row([stage, *(f"{times[stage]:.3f}" for times in known.values())]) for stage in STAGES]
    print_table([*words("stage"), *numbers(*known)], rows, console)


def _print_floor(r: ConvReport, console: Console) -> None:
    floor = r.floor
    if floor is None or r.peaks is None:
        return
    print_line(
        console,
        f"floor {floor.total_ms:.3f} ms: the fused form takes {r.fused.median_ms / floor.total_ms:.2f} times as long, "
        f"and at the floor it would be {r.dense.median_ms / floor.total_ms:.2f} times as fast as the dense one",
    )
    if r.centroid_gflops is not None:
        print_line(console, f"centroid products at {r.centroid_gflops:.1f} GFLOP/s")
    print_peaks(r.peaks, console)


def _print_profile(report: ModelComparison, console: Console) -> None:
    """Prints the time by layer of the model files in both models, slowest first."""
    sums: dict[str, list[float]] = {}
    ops: dict[str, dict[str, None]] = {}
    for index, times in enumerate((report.first, report.second)):
        for layer, node in _by_layer(times):
            sums.setdefault(layer, [0.0, 0.0])[index] += node.ms
            ops.setdefault(layer, {})[node.op] = None
    slowest = sorted(sums, key=lambda layer: max(sums[layer]), reverse=True)
    rows = [
        Row([layer, ", ".join(ops[layer]), *(f"{ms:.3f}" if ms else "-" for ms in sums[layer])])
        for layer in slowest[:PROFILED_NODES]
    ]
    left = slowest[PROFILED_NODES:]
    if left:
        rows.append(Row([f"{len(left)} more", "", *(f"{sum(sums[layer][i] for layer in left):.3f}" for i in (0, 1))]))
    print_table([*words("layer", "operators"), *numbers("A ms", "B ms")], rows, console)


def _by_layer(times: ModelTimes) -> Iterator[tuple[str, NodeTime]]:
    """Yields the nodes of a model, each with the layer that it computes, or a part of which."""
    reuse = {node.node for node in times.reuse_nodes}
    for node in times.nodes:
        # The nodes of the staged form are called <layer>/Hash and so on.
        staged = node.layer in reuse and node.op in STAGED_OPERATORS
        yield node.layer.rpartition("/")[0] if staged else node.layer, node


def _layer_ms(times: ModelTimes) -> dict[str, float]:
    sums: dict[str, float] = {}
    for layer, node in _by_layer(times):
        sums[layer] = sums.get(layer, 0.0) + node.ms
    return sums


def _print_reuse_nodes(label: str, times: ModelTimes, console: Console) -> None:
    rows = []
    for node in times.reuse_nodes:
        ratio = "-" if node.r_c is None else f"{node.r_c:.3f}"
        stages = (f"{getattr(node.stages_ms, stage):.3f}" for stage in STAGES)
        rows.append(Row([node.node, ratio, f"{node.guarded:.0f}", *stages, f"{node.scratch_bytes / 1e6:.1f}"]))
    headings = numbers("r_c", "guarded", *(f"{stage} ms" for stage in STAGES), "scratch MB")
    print_table([*words(f"reuse nodes of {label}"), *headings], rows, console)
    print_line(console, LEGEND, "dim")


def print_peaks(peaks: MachinePeaks, console: Console) -> None:
    """Prints what the machine does at best."""
    products = f"{2e-9 * peaks.multiply_adds_per_second:.0f} GFLOP/s"
    copies = f"{1e-9 * peaks.cached_bytes_per_second:.0f} GB/s in L2, {1e-9 * peaks.memory_bytes_per_second:.0f} beyond"
    print_line(console, f"peaks of {thread_count(peaks.threads)}: matrix products {products}, copies {copies}")


def print_machine(machine: Machine, console: Console) -> None:
    """Prints where it was measured."""
    isa = f", REUSE_ISA={machine.forced_isa}" if machine.forced_isa else ""
    runtime = f"onnxruntime {machine.versions['onnxruntime']}, operators {machine.versions['operators']}"
    print_line(console, f"{machine.processor}, {machine.processors} processors{isa}, {runtime}", "dim")


def thread_count(count: int) -> str:
    """Returns so many threads in words."""
    return f"{count} thread{'' if count == 1 else 's'}"


def _where(r: ConvReport) -> str:
    if r.provider == "cpu":
        return thread_count(r.threads)
    return f"CUDA, TF32 {'on' if r.tf32 else 'off'}"


def print_line(console: Console, text: str, style: str = "") -> None:
    """Prints a line, however long."""
    print_lines([text], console, style)
