"""Measures every candidate of every layer, and how sensitive the model's output is to each layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from pydantic import BaseModel

from reuse_compiler.calibration.activations import Activations
from reuse_compiler.calibration.bound import error_bound
from reuse_compiler.calibration.candidates import candidates
from reuse_compiler.calibration.effort import Effort
from reuse_compiler.calibration.evaluate import Evaluator
from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.calibration.measure import LayerBench, Tried, promising
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import CONFIG, Measurement
from reuse_compiler.calibration.state import State
from reuse_compiler.calibration.workers import SERIAL, Workers
from reuse_compiler.fitting.hashes import HashFitter, VectorSample, VectorSampler
from reuse_compiler.fitting.vectors import Floats
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.pipeline import apply_plan
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.sessions import ORIGINAL
from reuse_compiler.verification.verify import LayerTensor, in_chunks

SMALLEST_ERROR = 1e-6
"""Below this a layer's error is rounding."""
SENSITIVITY_RUNS = 1
"""Runs of the evaluator's samples on which a layer's sensitivity is measured: the one that candidates were measured on,
so that the errors of the output and of the layer are those of the same data."""
PROBED_ERROR = 0.2
"""The candidate whose error is nearest to this shows the sensitivity: large enough to be seen, not to swamp."""


class LayerSurvey(BaseModel):
    """What was measured of a layer."""

    model_config = CONFIG

    measurements: list[Measurement]
    sensitivity: float
    """The output's squared relative error per squared relative error of the layer's result."""


@dataclass(frozen=True)
class Survey:
    """What it takes to measure layers: the model, the samples to fit to, and a run that is not among them."""

    work: Workpiece
    feeds: Sequence[Feed]
    others: Sequence[Feed]
    """Candidates are measured on the first of these runs, so that their errors are those on new data; if there are
    more, they are consecutive frames of a stream, on which candidates are timed that keep sums."""
    evaluator: Evaluator
    options: CalibrationOptions
    effort: Effort
    state: State
    progress: ProgressCallback
    workers: Workers = SERIAL
    tolerance: float | None = None
    """Within which the inputs of all these runs are held, if they are."""

    def wanted(self) -> dict[str, list[LayerSettings]]:
        """Returns the candidates that the options ask for, by layer."""
        return {layer.name: candidates(layer.spec, self.options, self.effort) for layer in self.work.layers}

    def measure(self, wanted: dict[str, list[LayerSettings]]) -> dict[str, LayerSurvey]:
        """Measures the settings that are wanted, by layer; layers without any are left out."""
        layers = [layer for layer in self.work.layers if wanted[layer.name]]
        found = {}
        for index, (layer, sample, xs) in enumerate(self._inputs(layers, wanted)):
            self.progress("measuring layers", index, len(layers))
            found[layer.name] = self._layer(layer, sample, xs, wanted[layer.name])
        self.progress("measuring layers", len(layers), len(layers))
        return found

    def _layer(
        self, layer: ConvLayer, sample: VectorSample, xs: Sequence[Floats], settings: list[LayerSettings]
    ) -> LayerSurvey:
        bench = LayerBench(self.work, layer, xs[0], self.options.threads, self.workers, xs[1:])

        def measure() -> LayerSurvey:
            tried = bench.try_out(settings, sample)
            sensitivity = self._sensitivity(layer, tried)
            timed = promising(layer.spec, tried) if seeks_time else tried
            return LayerSurvey(measurements=bench.measure(timed, self.effort.repeats), sensitivity=sensitivity)

        on_cpu = self.options.provider == "cpu"  # which the cost model knows
        seeks_time = on_cpu and self.options.strategy == "search" and self.options.objective == "latency"
        key = f"{layer.name} {seeks_time} {[s.model_dump_json(by_alias=True) for s in settings]}"
        key += f" {self.tolerance:g}" if self.tolerance is not None else ""
        return self.state.remember("layers", key, LayerSurvey, measure)

    def _sensitivity(self, layer: ConvLayer, tried: list[Tried]) -> float:
        """Reuses one layer alone and looks at the model's output."""
        probe = min(tried, key=lambda own: abs(own.error - PROBED_ERROR))
        model = apply_plan(self.work.prepared, {layer.name: probe.plan}).model
        error = self.evaluator.output_error(model, SENSITIVITY_RUNS)
        return float(error**2 / max(probe.error, SMALLEST_ERROR) ** 2)

    def with_bounds(self, choice: dict[str, Measurement]) -> dict[str, Measurement]:
        """Returns the chosen measurements with the inference paper's bound beside the measured error."""
        wanted = {name: [measurement.settings] for name, measurement in choice.items()}
        layers = [layer for layer in self.work.layers if layer.name in choice]
        found = dict(choice)
        for index, (layer, sample, xs) in enumerate(self._inputs(layers, wanted)):
            self.progress("bounding errors", index, len(layers))
            bench = LayerBench(self.work, layer, xs[0], self.options.threads)
            plan = HashFitter(sample, layer.weights).plan(choice[layer.name].settings)
            bound = error_bound(layer, plan, layer.input_values(xs[0]), bench.dense_norm())
            found[layer.name] = choice[layer.name].model_copy(update={"error_bound": bound})
        self.progress("bounding errors", len(layers), len(layers))
        return found

    def _inputs(
        self, layers: Sequence[ConvLayer], wanted: dict[str, list[LayerSettings]]
    ) -> Iterator[tuple[ConvLayer, VectorSample, Sequence[Floats]]]:
        """Yields each layer with vectors to fit to and inputs to measure it on, a few layers' at a time."""
        by_name = {layer.name: layer for layer in layers}
        sizes = {layer.name: self._held_bytes(layer) for layer in layers}
        for chunk in in_chunks([LayerTensor(layer.name, layer.input, sizes[layer.name]) for layer in layers]):
            own = [by_name[piece.layer] for piece in chunk]
            tensors = [layer.input for layer in own]
            samplers = [self._sampler(layer, wanted[layer.name]) for layer in own]
            runs = Activations(self.work.model, tensors, [*self.feeds, *self.others], ORIGINAL).once()
            for inputs in islice(runs, len(self.feeds)):
                for layer, sampler, x in zip(own, samplers, inputs, strict=True):
                    sampler.add(layer.input_values(x))
            measured = list(runs)
            for place, (layer, sampler) in enumerate(zip(own, samplers, strict=True)):
                yield layer, sampler.sample(), [tensors[place] for tensors in measured]

    def _held_bytes(self, layer: ConvLayer) -> int:
        """Returns what a layer's input and vectors sampled from all runs take."""
        pixels = layer.spec.pixels
        sampled = min(self.effort.fit_vectors, pixels * len(self.feeds))
        return len(self.others) * layer.spec.input_bytes + 4 * layer.spec.in_channels * sampled

    def _sampler(self, layer: ConvLayer, settings: Sequence[LayerSettings]) -> VectorSampler:
        (layout,) = {s.layout for s in settings}
        return VectorSampler(
            layer.name, layer.spec, layout, self.effort.fit_vectors, len(self.feeds), self.options.seed
        )
