"""Measures one convolution: dense, staged, fused and quantised, in turn, in one process."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import onnx

from reuse_compiler.benchmark.case import ConvCase
from reuse_compiler.benchmark.floor import centroid_multiply_adds, compute_floor
from reuse_compiler.benchmark.inputs import LayerInput, build_input
from reuse_compiler.benchmark.layer import INPUT, dense_model, reuse_model
from reuse_compiler.benchmark.peaks import measure_peaks
from reuse_compiler.benchmark.profile import profile
from reuse_compiler.benchmark.report import (
    ConvReport,
    Int8Timing,
    LayerShape,
    ReuseTiming,
    Setting,
    StageTimes,
    ThreadTimes,
    Timing,
    describe_machine,
    summarize,
)
from reuse_compiler.errors import VerificationError
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.config import Lowering
from reuse_compiler.reuse.cost import predicted_cost
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.runtime import NodeStatistics, current_provider, reset_statistics, statistics
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.quantised import Quantised, fastest_quantised
from reuse_compiler.verification.sessions import BoundRun, open_session
from reuse_compiler.verification.timing import Samples, interleave

CLUSTERING = ("ReuseConv", "Cluster")
DEFECT = "this is a defect of reuse-compiler, please report it"
LARGEST_TABLE_ERROR = 0.1
"""More than rounding products to 8 bits can cost on the inputs of the benchmark."""
WARM_UPS = 2
THREAD_ROUNDS = 3
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Transpose")
"""Nodes of a quantised layer that do not compute it."""


@dataclass(frozen=True)
class Circumstances:
    """How a case is measured."""

    threads: int = 1
    repeats: int = 9
    staged: bool = True
    """Whether the staged form is measured, too."""
    int8: bool = False
    """Whether onnxruntime's quantised Conv is measured, too."""


def measure_conv(case: ConvCase, how: Circumstances, progress: ProgressCallback = silent) -> ConvReport:
    """Builds the input, runs all forms of the layer in turn and returns what was measured.

    Raises VerificationError if the operators find other clusters than the input has.
    """
    progress("building the input", 0, 0)
    data = build_input(case)
    dense = dense_model(case)
    # The staged form exists to be looked into, not to be fast: its tables are always float.
    staged = how.staged and case.table == "float"
    lowerings: tuple[Lowering, ...] = ("staged", "fused") if staged else ("fused",)
    reuse = {lowering: reuse_model(dense, case, data, lowering) for lowering in lowerings}
    runs = {"dense": _bind(case, data, dense, how.threads)}
    runs |= {lowering: _bind(case, data, model, how.threads) for lowering, model in reuse.items()}
    quantised = None
    if how.int8:
        shape = case.spec.output_shape
        quantised = fastest_quantised(
            dense, [{INPUT: data.x}], lambda opened: BoundRun(opened, data.x, shape), how.threads
        )
        runs["int8"] = quantised.run
    if current_provider().name == "cpu":
        progress("measuring the machine's peaks", 0, 0)
        measure_peaks(how.threads)
    interleave(runs, WARM_UPS)
    for lowering in lowerings:
        reset_statistics(runs[lowering].session)
    samples = interleave(runs, how.repeats, progress, f"timing {case}")
    return _Measurement(case, how, data, runs, samples, quantised).report()


def measure_threads(case: ConvCase, counts: tuple[int, ...], repeats: int) -> ThreadTimes:
    """Times the dense and the fused form with each number of threads.

    Turns are taken by session, of which one is open at a time: the waiting threads of others would hold up runs that
    are as short as the time that it takes to wake one.
    """
    data = build_input(case)
    dense = dense_model(case)
    models = {"dense": dense, "fused": reuse_model(dense, case, data, "fused")}
    samples: dict[tuple[str, int], list[float]] = {(form, count): [] for form in models for count in counts}
    for _ in range(THREAD_ROUNDS):
        for form, count in samples:
            run = {form: _bind(case, data, models[form], count)}
            interleave(run, WARM_UPS)
            samples[form, count] += interleave(run, repeats)[form]
            del run
    dense_ms, fused_ms = ([median(samples[form, count]) for count in counts] for form in models)
    return ThreadTimes(threads=list(counts), dense_ms=dense_ms, fused_ms=fused_ms)


def _bind(
    case: ConvCase, data: LayerInput, model: onnx.ModelProto, threads: int, stages_timed: bool = False
) -> BoundRun:
    """Opens a session; one of the dense form knows no operators but onnxruntime's."""
    plain = all(node.domain == "" for node in model.graph.node)
    opened = open_session(model, threads, "the layer", plain=plain, stages_timed=stages_timed)
    return BoundRun(opened, data.x, case.spec.output_shape)


@dataclass(frozen=True)
class _Measurement:
    """Everything that was run, from which the report is put together."""

    case: ConvCase
    how: Circumstances
    data: LayerInput
    runs: dict[str, BoundRun]
    samples: Samples
    quantised: Quantised[BoundRun] | None

    def report(self) -> ConvReport:
        """Returns the report, after checking that the operators did what they were asked."""
        case, data, how = self.case, self.data, self.how
        provider, fused = current_provider(), self._reuse("fused")
        peaks = measure_peaks(how.threads) if provider.name == "cpu" else None
        found = self._clusters("fused")
        clusters = (found if case.scope == "batch" else sum(data.clusters)) / case.blocking.num_blocks
        return ConvReport(
            **described(case, data, clusters),
            threads=how.threads,
            repeats=how.repeats,
            notes=notes_on(case, data),
            dense=self._timing("dense"),
            staged=self._reuse("staged") if "staged" in self.runs else None,
            fused=fused,
            int8=self._int8(self.quantised) if self.quantised else None,
            predicted_speedup=predicted_speedup(case, data, clusters / case.spec.rows) if peaks else None,
            centroid_gflops=_gflops(centroid_multiply_adds(case, data), fused.stages_ms.gemm),
            peaks=peaks,
            floor=compute_floor(case, data, peaks) if peaks else None,
            provider=provider.name,
            tf32=provider.tf32 if provider.name == "cuda" else None,
        )

    def _timing(self, form: str) -> Timing:
        return summarize(self.samples[form], median(self.samples["dense"]), self.case.spec.multiply_adds)

    def _reuse(self, lowering: Lowering) -> ReuseTiming:
        self._clusters(lowering)
        nodes = statistics(self.runs[lowering].session)
        stages = stages_of(nodes)
        if lowering == "fused" and current_provider().name == "cuda":
            stages = _stages_on_cuda(self.case, self.data, self.how)
        return ReuseTiming(
            **self._timing(lowering).model_dump(),
            stages_ms=stages,
            scratch_bytes=max(node.scratch_bytes for node in nodes),
            relative_error=self._error(lowering),
        )

    def _int8(self, quantised: Quantised[BoundRun]) -> Int8Timing:
        return Int8Timing(
            **self._timing("int8").model_dump(),
            form=quantised.form,
            relative_error=self._error("int8"),
            convolution_ms=self._convolution_ms(quantised.model),
        )

    def _convolution_ms(self, quantised: onnx.ModelProto) -> float:
        """Returns the time of the nodes that compute, without those that convert from and to float."""
        nodes = profile(
            quantised,
            lambda prefix: open_session(quantised, self.how.threads, "the quantised layer", profile=prefix, plain=True),
            lambda opened: opened.run(None, {INPUT: self.data.x}),
            self.how.repeats,
        )
        return sum(node.ms for node in nodes if node.op not in CONVERSIONS)

    def _error(self, form: str) -> float:
        difference = Difference()
        difference.add(self.runs["dense"].output, self.runs[form].output)
        return difference.rel_error

    def _clusters(self, lowering: Lowering) -> float:
        """Returns the clusters of a run that the operators counted, after checking that they are as they must be.

        Those of scope static are the codes that there are, and a session finds no new ones after the warm-up. Whether
        each vector got its own shows in the result then.
        """
        node = next(node for node in statistics(self.runs[lowering].session) if node.op in CLUSTERING)
        scope, codes = self.case.scope, self.case.blocking.num_blocks * 2**self.data.num_hashes
        expected = {"batch": sum(self.data.clusters), "session": 0, "static": codes}[scope]
        if node.clusters != node.runs * expected or node.guarded:
            raise VerificationError(
                f"the {lowering} form found {node.clusters / node.runs:g} clusters per run ({node.guarded} vectors "
                f"guarded), and must find {expected}: {DEFECT}"
            )
        error = self._error(lowering)
        if scope != "batch" and self.data.clusters == self.data.distinct and error > LARGEST_TABLE_ERROR:
            raise VerificationError(
                f"the result of the {lowering} form has a relative error of {error:.2g}, although every vector of the "
                f"input is a centroid: {DEFECT}"
            )
        return node.clusters / node.runs


def stages_of(nodes: list[NodeStatistics]) -> StageTimes:
    """Returns the stages' times per run, summed over the nodes."""
    sums = {
        stage: 1e3 * sum(getattr(node.seconds, stage) / node.runs for node in nodes)
        for stage in StageTimes.model_fields
    }
    return StageTimes(**sums)


def _stages_on_cuda(case: ConvCase, data: LayerInput, how: Circumstances) -> StageTimes:
    """Returns the fused form's stages, from runs apart: timing them makes the host wait for each."""
    run = _bind(case, data, reuse_model(dense_model(case), case, data, "fused"), how.threads, stages_timed=True)
    interleave({"fused": run}, WARM_UPS)
    reset_statistics(run.session)
    interleave({"fused": run}, how.repeats)
    return stages_of(statistics(run.session))


def predicted_speedup(case: ConvCase, data: LayerInput, remaining_ratio: float) -> float:
    """Returns what the cost model expects of reuse."""
    cost = predicted_cost(
        case.blocking,
        FAMILIES[case.family],
        data.num_hashes,
        remaining_ratio,
        reuse_rate=1.0 if case.scope == "session" else 0.0,  # the warm-up has seen all there is
        table=case.table,
        scope=case.scope,
    )
    return 1.0 / cost.total


def described(case: ConvCase, data: LayerInput, clusters: float) -> dict[str, Any]:
    """Returns what a report says of the layer, the setting, the input with so many clusters in a block, the machine."""
    g, blocking = case.spec, case.blocking
    shape: dict[str, Any] = {name: getattr(g, name) for name in LayerShape.model_fields if name != "name"}
    layer = LayerShape(name=str(case), **shape)
    setting = Setting(
        family=case.family,
        layout=blocking.layout,
        L=blocking.sub_vector_length,
        H=data.num_hashes,
        table="int32" if g.is_quantised and FAMILIES[case.family].lossless else case.table,
        scope=case.scope,
        order=case.order,
        asked_r_c=case.remaining_ratio,
        seed=case.seed,
    )
    found = {"distinct_per_block": list(data.distinct), "clusters_per_block": clusters, "r_c": clusters / g.rows}
    return {"layer": layer, "setting": setting, "cells": data.cells, "machine": describe_machine(), **found}


def notes_on(case: ConvCase, data: LayerInput) -> list[str]:
    """Returns a sentence for each thing that is not as it was asked."""
    notes = []
    lost = sum(data.distinct) - sum(data.clusters)
    if lost:
        share = lost / sum(data.distinct)
        codes = f"{data.num_hashes} bits tell at most {2**data.num_hashes} vectors apart"
        few = max(data.distinct) > 2**data.num_hashes
        why = codes if few else f"the codes of family {case.family} do not tell all vectors apart"
        notes.append(
            f"{why}, so a block's {max(data.distinct)} distinct vectors make {1 - share:.0%} as many clusters, and the "
            "error is that of merging random vectors: give more --bits"
        )
    if case.blocking.layout == "patch":
        mean = sum(data.distinct) / len(data.distinct)
        if round(mean) != case.distinct:
            notes.append(
                f"overlapping windows cannot repeat at will: {mean:.0f} distinct vectors per block came out where "
                f"{case.distinct} were asked"
            )
    return notes


def _gflops(multiply_adds: int, ms: float) -> float | None:
    return 2e-6 * multiply_adds / ms if multiply_adds and ms else None
