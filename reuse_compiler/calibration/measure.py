"""Measures a layer alone: r_c, error and real time of every candidate beside the dense layer."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.calibration.effort import Effort
from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.calibration.report import Measurement
from reuse_compiler.fitting.hashes import HashFitter
from reuse_compiler.passes.layer import ConvLayer, Prepared
from reuse_compiler.pipeline import apply_plan
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.cost import counted_operations
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.runtime import remaining_ratios
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.sessions import BoundRun, open_session
from reuse_compiler.verification.timing import interleave

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
        alone = self.work.alone(self.layer)
        dense = self._bind(alone.model)
        dense()
        expected = dense.output
        found = []
        for start in range(0, len(candidates), TOGETHER):
            chunk = candidates[start : start + TOGETHER]
            runs = [self._bind(self._reuse(alone, settings, fitter), dense) for settings in chunk]
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
                    operations=self._operations(settings, ratio),
                )
                found.append(measured)
        return found

    def dense_norm(self) -> float:
        """Returns the L2 norm of the dense layer's result."""
        dense = self._bind(self.work.alone(self.layer).model)
        dense()
        return float(np.linalg.norm(dense.output.astype(np.float64)))

    def _warm_up(self, run: BoundRun, expected: NDArray[Any]) -> tuple[float, float]:
        """Runs a candidate for the first time; returns its r_c and its relative L2 error."""
        run()
        difference = Difference()
        difference.add(expected, run.output)
        return remaining_ratios(run.session).get(self.layer.name, 0.0), difference.rel_error

    def _operations(self, settings: LayerSettings, ratio: float) -> float:
        blocking, family = settings.blocking(self.layer.spec), FAMILIES[settings.family]
        reuse_rate = 1.0 if settings.scope == "static" else 0.0
        return counted_operations(blocking, family, settings.num_hashes, ratio, reuse_rate)

    def _bind(self, model: onnx.ModelProto, beside: BoundRun | None = None) -> BoundRun:
        label = f"layer '{self.layer.name}'"
        return BoundRun(open_session(model, self.threads, label), self.x, self.layer.spec.output_shape, beside)

    def _reuse(self, alone: Prepared, settings: LayerSettings, fitter: HashFitter) -> onnx.ModelProto:
        return apply_plan(alone, {self.layer.name: fitter.plan(settings)}).model
