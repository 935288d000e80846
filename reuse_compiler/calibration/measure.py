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
from reuse_compiler.errors import VerificationError
from reuse_compiler.options import CompileOptions
from reuse_compiler.pipeline import lower
from reuse_compiler.reports.calibration import Measurement
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
            runs = [self._bind(self._reuse(dense_model, settings, fitter.fit(settings))) for settings in chunk]
            for run in runs:
                run()  # warm-up
            times = interleave({"dense": dense, **{str(index): run for index, run in enumerate(runs)}}, effort.repeats)
            dense_ms = statistics.median(times["dense"])
            found += [
                self._measurement(settings, run, expected, dense_ms, statistics.median(times[str(index)]))
                for index, (settings, run) in enumerate(zip(chunk, runs, strict=True))
            ]
        return found

    def dense_norm(self) -> float:
        """Returns the L2 norm of the dense layer's result."""
        dense = self._bind(self.work.layer_model(self.layer))
        dense()
        return float(np.linalg.norm(dense.output.astype(np.float64)))

    def _measurement(
        self, settings: LayerSettings, run: BoundRun, expected: NDArray[Any], dense_ms: float, reuse_ms: float
    ) -> Measurement:
        difference = Difference()
        difference.add(expected, run.output)
        ratio = remaining_ratios(run.session).get(self.layer.name, 0.0)
        return Measurement(
            settings=settings,
            r_c=ratio,
            output_error=difference.rel_error,
            dense_ms=dense_ms,
            reuse_ms=reuse_ms,
            operations=operations(self.layer, settings, ratio),
        )

    def _bind(self, model: onnx.ModelProto) -> BoundRun:
        label = f"layer '{self.layer.name}'"
        return BoundRun(open_session(model, self.threads, label), self.x, self.layer.output_shape)

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
