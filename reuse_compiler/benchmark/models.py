"""Compares two models on the same data: errors, times in turn, and where each spends its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from numpy.typing import NDArray

from reuse_compiler.benchmark.profile import profile
from reuse_compiler.benchmark.report import (
    KeptSums,
    ModelComparison,
    ModelTimes,
    NodeTime,
    OutputDifference,
    ReuseNode,
    StageTimes,
    describe_machine,
    summarize,
    summarize_frames,
)
from reuse_compiler.errors import ModelError
from reuse_compiler.graph import load_model
from reuse_compiler.graph.shapes import bind_shapes
from reuse_compiler.paths import AnyPath
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.runtime import NodeStatistics, current_provider, reset_clusters, reset_statistics, statistics
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.data import NoisySource, RandomSource, Shapes, Source
from reuse_compiler.verification.inputs import Feed, InputSpec, model_inputs
from reuse_compiler.verification.sessions import open_session, run_session, runner
from reuse_compiler.verification.sources import open_data
from reuse_compiler.verification.timing import Turns
from reuse_compiler.verification.verify import comparable_outputs

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class ModelFile:
    """A model and where it came from."""

    path: Path
    proto: onnx.ModelProto

    @staticmethod
    def read(path: Path) -> ModelFile:
        return ModelFile(path, load_model(path))

    def open(self, threads: int, profile_prefix: Path | None = None) -> onnxruntime.InferenceSession:
        """Opens the file itself, so that external data is found where it is."""
        return open_session(self.path, threads, str(self.path), profile=profile_prefix)


def compare_models(
    first: AnyPath,
    second: AnyPath,
    *,
    data: AnyPath | None = None,
    shapes: Shapes | None = None,
    threads: int = 1,
    repeats: int = 9,
    seed: int = 0,
    noise: float = 0.0,
    stream: bool = False,
    progress: ProgressCallback = silent,
) -> ModelComparison:
    """Runs both models on every feed of `data` (random numbers without), each at least `repeats` times in turn.

    `noise` is added to the data, relative to its standard deviation: nothing repeats then. With `stream` the data are
    frames: both models run on each once, in their order, and begin without anything kept. Raises ModelError if the
    models do not take the same inputs or share no output, RunError if one does not run.
    """
    files = [ModelFile.read(Path(path)) for path in (first, second)]
    source = _open_source(files, data, shapes or {}, seed)
    if noise:
        source = NoisySource(source, noise, seed)
    opened = [file.open(threads) for file in files]
    names = _shared_outputs(files, opened)
    turns = Turns({str(i): runner(opened[i], names, str(file.path)) for i, file in enumerate(files)})
    differences = _compare(files, turns, names, source, progress)
    turns.forget_times()
    for each in opened:
        reset_statistics(each)
        reset_clusters(each)
    rounds = len(source) if stream else max(repeats, len(source))
    for index, feed in enumerate(islice(_endless(source), rounds)):
        progress("timing", index, rounds)
        turns.round(feed)
    progress("timing", rounds, rounds)
    progress("profiling", 0, 0)
    times = [
        ModelTimes(
            model=str(file.path),
            timing=summarize(turns.samples[str(index)], turns.median_ms("0")),
            frames=summarize_frames(turns.samples[str(index)]) if stream else None,
            nodes=_profile(file, names, source, threads, repeats),
            reuse_nodes=_reuse_nodes(opened[index], stream),
        )
        for index, file in enumerate(files)
    ]
    return ModelComparison(
        first=times[0],
        second=times[1],
        provider=current_provider().name,
        differences=differences,
        measured_on=source.description,
        threads=threads,
        machine=describe_machine(),
    )


def _open_source(files: list[ModelFile], data: AnyPath | None, shapes: Shapes, seed: int) -> Source:
    """Opens the data for the first model's inputs, which must be the second's, too."""
    specs, others = (model_inputs(file.proto) for file in files)
    if [_kind(spec) for spec in specs] != [_kind(spec) for spec in others]:
        lists = (", ".join(map(str, each)) or "none" for each in (specs, others))
        raise ModelError(
            "the models do not take the same inputs: "
            + ", but ".join(f"{file.path} takes {inputs}" for file, inputs in zip(files, lists, strict=True))
        )
    bound = bind_shapes(files[0].proto, shapes, warn=data is None)
    return RandomSource(specs, bound, seed) if data is None else open_data(data, specs, shapes)


def _kind(spec: InputSpec) -> tuple[str, str]:
    return spec.name, str(spec.dtype)


def _shared_outputs(files: list[ModelFile], opened: list[onnxruntime.InferenceSession]) -> list[str]:
    """Returns the outputs of the first model that the second has, too."""
    others = comparable_outputs(opened[1])
    names = [name for name in comparable_outputs(opened[0]) if name in others]
    if not names:
        raise ModelError(
            f"{files[0].path} and {files[1].path} have no output in common, so there is nothing to compare"
        )
    return names


def _compare(
    files: list[ModelFile],
    turns: Turns[list[NDArray[Any]]],
    names: list[str],
    source: Source,
    progress: ProgressCallback,
) -> list[OutputDifference]:
    """Returns the differences of all outputs over all feeds; this also warms both models up."""
    differences = {name: Difference() for name in names}
    for index, feed in enumerate(source):
        progress("comparing both models", index, len(source))
        results = turns.round(feed)
        for name, expected, actual in zip(names, results["0"], results["1"], strict=True):
            if expected.shape != actual.shape:
                raise ModelError(
                    f"the output '{name}' has shape {list(expected.shape)} in {files[0].path} and "
                    f"{list(actual.shape)} in {files[1].path}"
                )
            differences[name].add(expected, actual)
    return [
        OutputDifference(output=name, relative_error=each.rel_error, max_abs_error=each.max_abs_error)
        for name, each in differences.items()
    ]


def _profile(file: ModelFile, names: list[str], source: Source, threads: int, runs: int) -> list[NodeTime]:
    feeds = _endless(source)

    def run(opened: onnxruntime.InferenceSession) -> None:
        run_session(opened, names, next(feeds), str(file.path))

    return profile(file.proto, lambda prefix: file.open(threads, prefix), run, runs)


def _endless(source: Source) -> Iterator[Feed]:
    """Goes through a source again and again, one feed in memory at a time."""
    while True:
        yield from source


def _reuse_nodes(opened: onnxruntime.InferenceSession, stream: bool) -> list[ReuseNode]:
    return [
        ReuseNode(
            node=node.node,
            op=node.op,
            r_c=node.remaining_ratio,
            guarded=node.guarded / node.runs,
            stages_ms=StageTimes(**{k: 1e3 * v / node.runs for k, v in node.seconds.model_dump().items()}),
            scratch_bytes=node.scratch_bytes,
            kept=_kept_sums(node) if stream and node.anew else None,
        )
        for node in statistics(opened)
        if node.runs
    ]


def _kept_sums(node: NodeStatistics) -> KeptSums:
    """Returns what an incremental node, which has at least a first frame, made of its sums."""
    return KeptSums(
        changed=node.changed / max(1, node.vectors),
        recomputed=node.recomputed / max(1, node.rows),
        anew=node.anew,
        state_bytes=node.state_bytes,
    )
