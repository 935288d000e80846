"""Measures a layer alone: r_c and error of every candidate, and its real time beside the dense layer's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.calibration.candidates import expected_cost
from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.calibration.report import Measurement
from reuse_compiler.calibration.workers import SERIAL, Shared, Workers
from reuse_compiler.fitting.hashes import HashFitter, VectorSample
from reuse_compiler.passes.layer import ConvLayer, Prepared
from reuse_compiler.pipeline import apply_plan, find_layers
from reuse_compiler.processors import processors
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.cost import counted_operations
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import ConvSpec
from reuse_compiler.reuse.plan import LayerPlan, Plan, incremental
from reuse_compiler.runtime import remaining_ratios
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.sessions import BoundRun, open_session, run_session
from reuse_compiler.verification.timing import Turns, on_one_processor

DENSE = "dense"
CLEARLY = 1.5
"""Candidates that take so many times as long as another one, or the dense layer, which errs no more are timed once;
those of which the cost model expects it are not timed at all."""
TOGETHER = 6
"""Candidates that are timed in turn with one dense layer: each session holds packed weights and working memory."""


@dataclass(frozen=True)
class Tried:
    """A candidate that was fitted, and what it does on the input that layers are measured on."""

    plan: LayerPlan
    r_c: float
    error: float
    """Of the layer's result, relative, in the L2 norm."""


@dataclass(frozen=True)
class Candidates:
    """Candidates of a layer whose parameters are fitted together, with what it takes to fit and to try them."""

    layer: str
    model: Shared
    """Of the layer alone, serialized."""
    x: Shared
    expected: Shared
    vectors: Shared
    sample: VectorSample
    """Of those vectors, and without them."""
    settings: Sequence[LayerSettings]


def try_candidates(task: Candidates) -> list[Tried]:
    """Fits candidates, and runs the layer with each of them."""
    spec, label = task.sample.spec, f"layer '{task.layer}'"
    model = onnx.load_from_string(task.model.array.tobytes())
    alone = find_layers(model, {model.graph.input[0].name: spec.input_shape})
    sample = replace(task.sample, vectors=task.vectors.array)
    layer = alone.convolutions[task.layer]
    fitter = HashFitter(sample, layer.weights, task.settings)
    found = []
    for settings in task.settings:
        plan = fitter.plan(settings)
        session = open_session(apply_plan(alone, {task.layer: plan}).model, processors(), label, keeps_memory=False)
        (y,) = run_session(session, None, {model.graph.input[0].name: task.x.array}, label)
        difference = Difference()
        difference.add(layer.output_values(task.expected.array), layer.output_values(y))
        found.append(Tried(plan, remaining_ratios(session).get(task.layer, 0.0), difference.rel_error))
    return found


@dataclass(frozen=True)
class LayerBench:
    """A layer with an input to measure it on, `x` as the model has it, and the `frames` that follow it in a stream.

    If there are any, candidates are timed that keep sums, on these inputs forwards and backwards.
    """

    work: Workpiece
    layer: ConvLayer
    x: NDArray[np.float32]
    threads: int
    workers: Workers = SERIAL
    frames: Sequence[NDArray[np.float32]] = ()

    def try_out(self, candidates: Sequence[LayerSettings], sample: VectorSample) -> list[Tried]:
        """Returns what each candidate does that is fitted to a sample."""
        kinds: dict[tuple[str, int], list[LayerSettings]] = {}
        for settings in candidates:
            kinds.setdefault((settings.family, settings.sub_vector_length), []).append(settings)
        task = Candidates(
            layer=self.layer.name,
            model=self.workers.share(np.frombuffer(self._alone.model.SerializeToString(), np.uint8)),
            x=self.workers.share(self.x),
            expected=self.workers.share(self._dense.output),
            vectors=self.workers.share(sample.vectors),
            sample=replace(sample, vectors=sample.vectors[:0]),
            settings=candidates,
        )
        tasks = [replace(task, settings=own) for own in kinds.values()]
        found = {own.plan.settings: own for tried in self.workers.map(try_candidates, tasks) for own in tried}
        return [found[settings] for settings in candidates]

    def measure(self, tried: Sequence[Tried], repeats: int) -> list[Measurement]:
        """Returns a measurement for every candidate that was tried; nothing else is done meanwhile."""
        found: list[Measurement] = []
        with on_one_processor(self.threads):
            for start in range(0, len(tried), TOGETHER):
                self._time(tried[start : start + TOGETHER], repeats, found)
        return found

    def dense_norm(self) -> float:
        """Returns the L2 norm of the dense layer's result."""
        return float(np.linalg.norm(self.layer.output_values(self._dense.output).astype(np.float64)))

    @cached_property
    def _alone(self) -> Prepared:
        return self.work.alone(self.layer)

    @cached_property
    def _dense(self) -> BoundRun:
        """The layer as it is, after its first run."""
        run = self._bind(self._alone.model)
        run()
        return run

    def _time(self, tried: Sequence[Tried], repeats: int, found: list[Measurement]) -> None:
        """Adds the measurements of some candidates to those that there are."""
        plans: list[Plan] = [{self.layer.name: own.plan} for own in tried]
        plans = list(map(incremental, plans)) if self.frames else plans
        models = [apply_plan(self._alone, plan).model for plan in plans]
        runs = {str(index): self._bind(model, self._dense) for index, model in enumerate(models)}
        turns = Turns({DENSE: self._dense, **runs})
        inputs = cycle([self.x, *self.frames, *self.frames[-2::-1]])
        self._round(turns, inputs)
        turns.forget_times()
        self._round(turns, inputs)
        dense_ms = turns.median_ms(DENSE)
        points = {name: (own.error, turns.median_ms(name) / dense_ms) for name, own in zip(runs, tried, strict=True)}
        rivals = [(0.0, 1.0), *points.values(), *((own.output_error, own.reuse_ms / own.dense_ms) for own in found)]
        turns.leave_out([name for name, point in points.items() if is_beaten(point, rivals)])
        for _ in range(repeats - 1):
            self._round(turns, inputs)
        for own, name in zip(tried, runs, strict=True):
            found.append(
                Measurement(
                    settings=own.plan.settings,
                    r_c=own.r_c,
                    output_error=own.error,
                    dense_ms=turns.median_ms(DENSE),
                    reuse_ms=turns.median_ms(name),
                    operations=self._operations(own.plan.settings, own.r_c),
                )
            )

    def _round(self, turns: Turns[None], inputs: Iterator[NDArray[np.float32]]) -> None:
        if self.frames:
            self._dense.give(next(inputs))
        turns.round()

    def _operations(self, settings: LayerSettings, ratio: float) -> float:
        blocking, family = settings.blocking(self.layer.spec), FAMILIES[settings.family]
        reuse_rate = 1.0 if settings.scope == "static" else 0.0
        return counted_operations(blocking, family, settings.num_hashes, ratio, reuse_rate)

    def _bind(self, model: onnx.ModelProto, beside: BoundRun | None = None) -> BoundRun:
        label = f"layer '{self.layer.name}'"
        x = self.x.copy() if self.frames else self.x  # whose memory other frames get
        return BoundRun(open_session(model, self.threads, label), x, self.layer.spec.output_shape, beside)


def promising(spec: ConvSpec, tried: Sequence[Tried]) -> list[Tried]:
    """Returns the candidates without those that will be beaten by another one, as far as the cost model can tell."""
    points = [(own.error, expected_cost(spec, own.plan.settings, own.r_c)) for own in tried]
    return [own for own, point in zip(tried, points, strict=True) if not is_beaten(point, points)]


def is_beaten(point: tuple[float, float], rivals: Sequence[tuple[float, float]]) -> bool:
    """Whether one of the rivals (error, time) errs no more and is clearly faster."""
    return any(error <= point[0] and CLEARLY * time <= point[1] for error, time in rivals)
