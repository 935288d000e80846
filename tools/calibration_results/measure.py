"""Compares all forms of a network with the original on held-out data: one process, one thread, taking turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from reuse_compiler.benchmark.quantised import Quantised, fastest_quantised
from reuse_compiler.calibration.metrics import Metric, Outputs
from reuse_compiler.calibration.report import Flips
from reuse_compiler.calibration.samples import Sample, Samples
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.runtime import remaining_ratios, reset_statistics
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.sessions import open_session
from reuse_compiler.verification.timing import interleave
from tools.calibration_results.results import ReuseLayer, VariantResult

if TYPE_CHECKING:
    import onnxruntime

ORIGINAL, INT8 = "original", "onnxruntime int8"
THREADS = 1
LEAST_ROUNDS = 7
INT8_RUNS = 64
"""Runs of the calibration data that the quantisation looks at, at most."""

Settings = Mapping[str, LayerSettings]


def quantise_on(
    model: onnx.ModelProto, samples: Samples, progress: ProgressCallback = silent
) -> Quantised[Callable[[], object]]:
    """Returns the fastest form that onnxruntime's static quantisation has of the model."""
    first = samples.first_feed
    return fastest_quantised(model, _Feeds(samples), lambda opened: partial(opened.run, None, first), THREADS, progress)


def spread(samples: Samples, runs: int = INT8_RUNS) -> Samples:
    """Returns at most so many of the samples, evenly spread over them."""
    count = min(len(samples), runs)
    return samples.subset(np.linspace(0, len(samples) - 1, count).round().astype(int).tolist())


class _Feeds(Iterable[Feed]):
    """The inputs of samples, each read when its turn comes, as often as they are gone through."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __iter__(self) -> Iterator[Feed]:
        return (sample.feed for sample in self._samples)


def rounds_of(samples: Samples) -> int:
    """Returns how often every form runs: once on each sample, but so often that a median means something."""
    return max(len(samples), LEAST_ROUNDS)


def compare(
    models: Mapping[str, onnx.ModelProto | Path],
    settings: Mapping[str, Settings],
    samples: Samples,
    metric: Metric,
    progress: ProgressCallback = silent,
) -> list[VariantResult]:
    """Runs every model on all samples; the model ORIGINAL is what the others are compared with.

    In each of the `rounds_of` the samples, all models run on one of the samples in turn.
    `settings` are those of the layers with reuse, by model.
    """
    sessions = {
        name: open_session(model, THREADS, f"variant {name}", plain=name not in settings)
        for name, model in models.items()
    }
    judge = _Judge(sessions, samples, metric)
    judge.warm_up()
    for name in settings:
        reset_statistics(sessions[name])
    runs = {name: partial(judge.run, name) for name in sessions}
    times = interleave(runs, rounds_of(samples), progress, "comparing on held-out data", before_round=judge.advance)
    judge.judge()
    original_ms, values, flips = statistics.median(times[ORIGINAL]), judge.values(), judge.flips()
    return [
        VariantResult(
            name=name,
            metric=values[name],
            change=_change(metric, values[ORIGINAL], values[name]),
            flips=flips[name],
            output_error=judge.output_error(name),
            median_ms=statistics.median(times[name]),
            speedup=original_ms / statistics.median(times[name]),
            layers=_layers(sessions[name], settings.get(name, {})),
        )
        for name in sessions
    ]


class _Judge:
    """Runs models on one sample after the other and sums up how good their outputs are."""

    def __init__(self, sessions: Mapping[str, onnxruntime.InferenceSession], samples: Samples, metric: Metric) -> None:
        self._sessions, self._samples = sessions, samples
        self._names = [output.name for output in sessions[ORIGINAL].get_outputs()]
        self._round = -1
        self._sample = _in_memory(samples[0])
        self._outputs: dict[str, Outputs] = {}
        self._accumulators = {name: metric.start() for name in sessions}
        self._differences = {name: {output: Difference() for output in self._names} for name in sessions}

    def warm_up(self) -> None:
        """Runs every model once."""
        for name in self._sessions:
            self.run(name)

    def run(self, name: str) -> None:
        """Runs a model on the present sample."""
        found = self._sessions[name].run(self._names, self._sample.feed)
        self._outputs[name] = dict(zip(self._names, found, strict=True))

    def advance(self) -> None:
        """Judges the last round's outputs and goes on to the next sample, after the last one to the first."""
        self.judge()
        self._round += 1
        self._sample = _in_memory(self._samples[self._round % len(self._samples)])

    def judge(self) -> None:
        """Adds the outputs of a round, unless it was one of those that are there for the times only."""
        if not 0 <= self._round < len(self._samples):
            return
        expected = self._outputs[ORIGINAL]
        for name, found in self._outputs.items():
            self._accumulators[name].add(expected, found, self._sample.labels)
            for output, difference in self._differences[name].items():
                difference.add(expected[output], found[output])

    def values(self) -> dict[str, float]:
        """Returns the metric by model."""
        return {name: accumulator.value() for name, accumulator in self._accumulators.items()}

    def flips(self) -> dict[str, Flips | None]:
        """Returns what became of single rows, by model."""
        return {name: accumulator.flips() for name, accumulator in self._accumulators.items()}

    def output_error(self, name: str) -> float:
        """Returns a model's largest relative L2 error."""
        return max(difference.rel_error for difference in self._differences[name].values())


def _in_memory(sample: Sample) -> Sample:
    """A copy: who reads a mapped file first would pay for it in time."""
    return Sample({name: np.array(array) for name, array in sample.feed.items()}, sample.labels)


def _change(metric: Metric, original: float, value: float) -> float:
    """How far the metric is from the original's, with the sign of better (+) or worse (-)."""
    return 0.0 - metric.drop(original, value)


def _layers(session: onnxruntime.InferenceSession, settings: Settings) -> list[ReuseLayer]:
    ratios = remaining_ratios(session) if settings else {}
    return [ReuseLayer(name=name, settings=own, r_c=ratios.get(name)) for name, own in settings.items()]
