"""Compares all forms of a network with the original on held-out data: one process, one thread, taking turns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from reuse_compiler.calibration.metrics import Metric
from reuse_compiler.calibration.samples import Sample, Samples
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.runtime import remaining_ratios, reset_statistics
from reuse_compiler.verification.compare import Difference, largest_error
from reuse_compiler.verification.sessions import open_session, runner
from reuse_compiler.verification.timing import Turns
from tools.calibration_results.results import ReuseLayer, VariantResult

if TYPE_CHECKING:
    import onnxruntime

ORIGINAL, INT8 = "original", "onnxruntime int8"
THREADS = 1
LEAST_ROUNDS = 7

Settings = Mapping[str, LayerSettings]


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
    names = [output.name for output in sessions[ORIGINAL].get_outputs()]
    turns = Turns({name: runner(opened, names, f"variant {name}") for name, opened in sessions.items()})
    turns.round(samples[0].feed)
    turns.forget_times()
    for name in settings:
        reset_statistics(sessions[name])
    accumulators = {name: metric.start() for name in sessions}
    differences = {name: {output: Difference() for output in names} for name in sessions}
    rounds = rounds_of(samples)
    for index in range(rounds):
        progress("comparing on held-out data", index, rounds)
        sample = _in_memory(samples[index % len(samples)])
        outputs = {name: dict(zip(names, found, strict=True)) for name, found in turns.round(sample.feed).items()}
        if index >= len(samples):  # further rounds are there for the times only
            continue
        for name, found in outputs.items():
            accumulators[name].add(outputs[ORIGINAL], found, sample.labels)
            for output, difference in differences[name].items():
                difference.add(outputs[ORIGINAL][output], found[output])
    progress("comparing on held-out data", rounds, rounds)
    original = accumulators[ORIGINAL].value()
    return [
        VariantResult(
            name=name,
            metric=accumulator.value(),
            change=0.0 - metric.drop(original, accumulator.value()),
            flips=accumulator.flips(),
            output_error=largest_error(differences[name]),
            median_ms=turns.median_ms(name),
            speedup=turns.median_ms(ORIGINAL) / turns.median_ms(name),
            layers=_layers(sessions[name], settings.get(name, {})),
        )
        for name, accumulator in accumulators.items()
    ]


def _in_memory(sample: Sample) -> Sample:
    """A copy: who reads a mapped file first would pay for it in time."""
    return Sample({name: np.array(array) for name, array in sample.feed.items()}, sample.labels)


def _layers(session: onnxruntime.InferenceSession, settings: Settings) -> list[ReuseLayer]:
    ratios = remaining_ratios(session) if settings else {}
    return [ReuseLayer(name=name, settings=own, r_c=ratios.get(name)) for name, own in settings.items()]
