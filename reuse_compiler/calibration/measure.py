"""Measures a layer alone: r_c, error and real time of every candidate beside the dense layer."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.benchmark.sessions import BoundRun, open_session
from reuse_compiler.benchmark.timing import interleave
from reuse_compiler.calibration.effort import Effort
from reuse_compiler.calibration.fit import HashFitter
from reuse_compiler.calibration.layers import ConvLayer, Workpiece
from reuse_compiler.calibration.report import Measurement
from reuse_compiler.errors import VerificationError
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from reuse_compiler.reuse.config import LayerSettings, ReuseConfig
from reuse_compiler.reuse.cost import predicted_cost
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.fitted import Fitted
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.runtime import remaining_ratios
from reuse_compiler.verification.compare import Difference

TOGETHER = 6
"""Candidates that are timed in turn with one dense layer: each session holds packed weights and working memory."""


@dataclass(frozen=True)
class LayerBench:
    """A layer with an input to measure it on, `x` as the model has it."""

    work: Workpiece
    layer: ConvLayer
    x: NDArray[np.float32]
    threads: int

    def measure(self, candidates: Sequence[LayerSettings], fitter: HashFitter, effort: Effort) -> list[Measurement]:
        """Returns a measurement for every candidate."""
        dense_model = self.work.layer_model(self.layer)
        dense = self._bind(dense_model)
        dense()
        expected = dense.output
        found = []
        for start in range(0, len(candidates), TOGETHER):
            chunk = candidates[start : start + TOGETHER]
            runs = [self._bind(self._reuse(dense_model, settings, fitter.fit(settings)), dense) for settings in chunk]
            warm = [self._warm_up(run, expected) for run in runs]
            times = interleave({"dense": dense, **{str(index): run for index, run in enumerate(runs)}}, effort.repeats)
            dense_ms = statistics.median(times["dense"])
            for index, (settings, (ratio, error)) in enumerate(zip(chunk, warm, strict=True)):
                measured = Measurement(
                    settings=settings,
                    r_c=ratio,
                    output_error=error,
                    dense_ms=dense_ms,
                    reuse_ms=statistics.median(times[str(index)]),
                    operations=operations(self.layer, settings, ratio),
                )
                found.append(measured)
        return found

    def dense_norm(self) -> float:
        """Returns the L2 norm of the dense layer's result."""
        dense = self._bind(self.work.layer_model(self.layer))
        dense()
        return float(np.linalg.norm(dense.output.astype(np.float64)))

    def _warm_up(self, run: BoundRun, expected: NDArray[Any]) -> tuple[float, float]:
        """Runs a candidate for the first time; returns its r_c and its relative L2 error."""
        run()
        difference = Difference()
        difference.add(expected, run.output)
        return remaining_ratios(run.session).get(self.layer.name, 0.0), difference.rel_error

    def _bind(self, model: onnx.ModelProto, beside: BoundRun | None = None) -> BoundRun:
        label = f"layer '{self.layer.name}'"
        return BoundRun(open_session(model, self.threads, label), self.x, self.layer.output_shape, beside)

    def _reuse(self, dense: onnx.ModelProto, settings: LayerSettings, parameters: HashParameters) -> onnx.ModelProto:
        config = ReuseConfig(layers={self.layer.name: settings})
        lowered = lower(
            dense,
            CompileOptions(shapes={self.layer.input: self.layer.input_shape}),
            config,
            Fitted({self.layer.name: parameters}),
        )
        if not lowered.modified:
            raise VerificationError(f"layer '{self.layer.name}' cannot be rewritten: {lowered.layers[0].reason}")
        return lowered.model


def operations(layer: ConvLayer, settings: LayerSettings, ratio: float) -> float:
    """Operations relative to the dense layer, all alike: the training paper's Eq. 5 and its channel layout."""
    blocking = Blocking(layer.geometry, settings.layout, settings.sub_vector_length)
    family = FAMILIES[settings.family]
    return predicted_cost(
        blocking,
        family,
        settings.num_hashes,
        ratio,
        centroid_cost=1.0,
        gather_cost=1.0,
        input_pass_cost=0.0,
        output_pass_cost=0.0,
    ).total
