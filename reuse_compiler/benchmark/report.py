"""The reports of `reuse-bench`, as `--json` writes them. Times are milliseconds of one run."""

from __future__ import annotations

import os
import statistics
from typing import Literal

import numpy as np

from reuse_compiler.environment import processor, versions
from reuse_compiler.report import Report
from reuse_compiler.runtime import ProviderName


class Timing(Report):
    """Times of one form of a layer or of a model."""

    median_ms: float
    fastest_ms: float
    samples_ms: list[float]
    speedup: float
    """Median of the dense form (of the first model) over this one's; both were run in turn."""
    gflops: float | None = None
    """10^9 operations per second (a multiply-add is two) that the dense convolution would need to be as fast."""


class StageTimes(Report):
    """Times of the stages of a reuse layer, from the operators' statistics: means over the timed runs."""

    hash: float = 0.0
    cluster: float = 0.0
    gemm: float = 0.0
    gather: float = 0.0


class ReuseTiming(Timing):
    """Times of a layer with reuse."""

    stages_ms: StageTimes
    scratch_bytes: int
    """Working memory of a run, the largest of the layer's nodes."""
    relative_error: float
    """Relative L2 error of the output against the dense form's."""


class Int8Timing(Timing):
    """onnxruntime's statically quantised Conv, from float input to float output."""

    form: str
    """The fastest on this machine of the forms that onnxruntime's quantizer writes."""
    relative_error: float
    convolution_ms: float
    """Without the nodes that quantise the input and bring the output back to float (from onnxruntime's profiler)."""


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


class Machine(Report):
    """Where it was measured."""

    processor: str
    processors: int
    forced_isa: str | None = None
    """REUSE_ISA, if it was set."""
    versions: dict[str, str]


class LayerShape(Report):
    """A convolution, as ONNX describes it."""

    name: str
    input_shape: list[int]
    weight_shape: list[int]
    strides: list[int]
    pads: list[int]
    dilations: list[int]
    group: int


class Setting(Report):
    """How reuse was set, and how redundant the input was to be."""

    family: str
    layout: str
    L: int
    H: int
    table: str
    scope: str = "batch"
    order: str
    asked_r_c: float
    seed: int


class ConvReport(Report):
    """One convolution, measured."""

    version: Literal[1] = 1
    layer: LayerShape
    setting: Setting
    threads: int
    repeats: int
    distinct_per_block: list[int]
    """Distinct vectors of each block of the input."""
    clusters_per_block: float
    """Mean over blocks and runs, from the operators' statistics; with scope static and session of the input itself."""
    r_c: float
    """Remaining ratio: clusters per row of the unfolded input, mean over blocks."""
    cells: str | None = None
    """In the patch layout, what the input image consists of."""
    notes: list[str]
    dense: Timing
    staged: ReuseTiming | None = None
    fused: ReuseTiming
    int8: Int8Timing | None = None
    predicted_speedup: float | None
    """What the cost model, which is of CPUs, expects of the fused form over the dense one at the r_c measured."""
    centroid_gflops: float | None
    """10^9 operations per second of the fused form's centroid products."""
    peaks: MachinePeaks | None
    """Of the CPU only, as is the floor."""
    floor: Floor | None
    provider: ProviderName = "cpu"
    tf32: bool | None = None
    """Whether CUDA's products may be rounded to TF32; None on the CPU."""
    machine: Machine


class OutputDifference(Report):
    """How far an output of the second model is from the first's."""

    output: str
    relative_error: float
    max_abs_error: float


class NodeTime(Report):
    """A node of the optimised model, from onnxruntime's profiler."""

    layer: str
    """The node of the model file that it comes from, as far as its name tells."""
    node: str
    op: str
    ms: float


class KeptSums(Report):
    """What became of what a node keeps from frame to frame, over all frames: of sums, or of held inputs."""

    changed: float
    """Share of the vectors that had another id than in the frame before, or of a Hold's pixels that did not keep
    their value."""
    recomputed: float
    """Share of the output's pixels whose sums were made anew."""
    anew: int
    """Frames that had no kept sums to begin with: the first, and those of a pause."""
    state_bytes: int


class FrameTimes(Report):
    """Times of a stream's frames, one after the other."""

    frames_per_second: float
    """Of all frames: their number over the sum of their times."""
    median_ms: float
    p95_ms: float
    p99_ms: float


class ReuseNode(Report):
    """A reuse node, from the operators' statistics."""

    node: str
    op: str
    r_c: float | None
    guarded: float
    """Vectors per run that were computed on their own."""
    stages_ms: StageTimes
    scratch_bytes: int
    kept: KeptSums | None = None
    """Of a stream, in a node that keeps sums or holds inputs."""


class ModelTimes(Report):
    """One of two models."""

    model: str
    timing: Timing
    frames: FrameTimes | None = None
    """If the data are a stream."""
    nodes: list[NodeTime]
    reuse_nodes: list[ReuseNode]


class ModelComparison(Report):
    """Two models on the same data; errors are those of the second, speed-ups relative to the first."""

    version: Literal[1] = 1
    first: ModelTimes
    second: ModelTimes
    provider: ProviderName = "cpu"
    differences: list[OutputDifference]
    measured_on: str
    threads: int
    machine: Machine


class WorstCase(Report):
    """Two models on data as it is, and on the same data where nothing repeats."""

    version: Literal[1] = 1
    as_given: ModelComparison
    without_repeats: ModelComparison


class ThreadTimes(Report):
    """Median times by the number of threads, of both forms in turn."""

    threads: list[int]
    dense_ms: list[float]
    fused_ms: list[float]


def summarize(samples: list[float], dense_ms: float, multiply_adds: int | None = None) -> Timing:
    """Returns the median of `samples` (ms) beside that of the dense form; `multiply_adds` are the dense form's."""
    median = statistics.median(samples)
    return Timing(
        median_ms=median,
        fastest_ms=min(samples),
        samples_ms=[round(sample, 4) for sample in samples],
        speedup=dense_ms / median,
        gflops=None if multiply_adds is None else 2e-6 * multiply_adds / median,
    )


def summarize_frames(samples: list[float]) -> FrameTimes:
    """Returns what the times (ms) of a stream's frames amount to."""
    median, p95, p99 = np.percentile(samples, (50, 95, 99))
    return FrameTimes(frames_per_second=1e3 * len(samples) / sum(samples), median_ms=median, p95_ms=p95, p99_ms=p99)


def describe_machine() -> Machine:
    """Returns where this process runs."""
    return Machine(
        processor=processor(),
        processors=os.cpu_count() or 1,
        forced_isa=os.environ.get("REUSE_ISA") or None,
        versions=versions(),
    )
