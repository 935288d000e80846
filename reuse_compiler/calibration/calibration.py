"""A calibration from the model and its samples to the chosen layers: the steps, one after the other."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from functools import cached_property

import onnx

from reuse_compiler.calibration.deploy import Deployer, Deployment
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.evaluate import Evaluator, Score
from reuse_compiler.calibration.layers import ConvLayer, Workpiece
from reuse_compiler.calibration.metrics import Metric, Target
from reuse_compiler.calibration.options import DEFAULT_MAX_DROP, CalibrationOptions, Reconstruct
from reuse_compiler.calibration.papers import papers_candidates, papers_choice
from reuse_compiler.calibration.report import Check, LayerCalibration, Measurement, Trial
from reuse_compiler.calibration.samples import Split
from reuse_compiler.calibration.search import Choice, LayerChoices, Search, settings_of
from reuse_compiler.calibration.state import State
from reuse_compiler.calibration.survey import LayerSurvey, Survey
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.verification.inputs import Feed

logger = logging.getLogger(__name__)

LEAST_SPEEDUP = 1.03
"""Of the whole model: less is within what times vary by, and not worth any accuracy."""


@dataclass
class Calibration:
    """One calibration; `run` fills in what it finds out."""

    original: onnx.ModelProto
    work: Workpiece
    parts: Split
    metric: Metric
    options: CalibrationOptions
    state: State
    progress: ProgressCallback

    def __post_init__(self) -> None:
        self.effort = EFFORTS[self.options.budget]
        self.trials: list[Trial] = []
        self.surveys: dict[str, LayerSurvey] = {}
        self.choice: Choice = {}
        self.deployment = Deployment()
        self.checks: dict[str, Check] = {}

    def run(self) -> None:
        """Measures the layers, chooses, fits the choice and checks it on the data that was held out."""
        # Known before the long work, so that a wish which even the original does not fulfil is refused at once.
        logger.info(
            "%s %.6g of the original, %.6g to be kept", self.metric.name, self.evaluator.original, self.target.value
        )
        self._warn_of_few_rows()
        if self.options.strategy == "papers":
            self.surveys = self.survey.measure(papers_candidates(self.work.layers, self.options))
            measurements = {name: survey.measurements for name, survey in self.surveys.items()}
            self.choice = papers_choice(measurements, self.work.layers, self._try)
        else:
            self.surveys = self.survey.measure(self.survey.wanted())
            self.choice = self._search()
        if self.choice:
            self._check()
            self.choice = self.survey.with_bounds(self.choice)

    @cached_property
    def feeds(self) -> list[Feed]:
        """The runs that everything is fitted to."""
        return [self.parts.fit[index].feed for index in range(min(len(self.parts.fit), self.effort.fit_runs))]

    @cached_property
    def survey(self) -> Survey:
        other = self.parts.selection.first_feed
        return Survey(
            self.work, self.feeds, other, self.evaluator, self.options, self.effort, self.state, self.progress
        )

    @cached_property
    def deployer(self) -> Deployer:
        return Deployer(self.work, self.feeds, self.effort, self.options.seed)

    @cached_property
    def evaluator(self) -> Evaluator:
        return Evaluator(self.original, self.parts.selection, self.metric, self.options.threads, self.progress)

    @cached_property
    def target(self) -> Target:
        """The value of the metric to be kept on the samples for selection."""
        return Target.make(self.metric, self.evaluator.original, self.options.max_drop, self.options.at_least)

    def _search(self) -> Choice:
        layers = {layer.name: layer for layer in self.work.layers}
        choices = [
            LayerChoices(name, multiply_adds(layers[name]), survey.sensitivity, survey.measurements)
            for name, survey in self.surveys.items()
        ]
        return self._worth_it(Search(choices, self.options.objective, self._try, self.effort.trials).run())

    def _worth_it(self, choice: Choice) -> Choice:
        """Returns the choice, or none if the whole model became hardly faster with it."""
        if not choice or self.options.objective == "operations":
            return choice
        trial = next(trial for trial in self.trials if trial.accepted and trial.layers == settings_of(choice))
        if trial.dense_ms > LEAST_SPEEDUP * trial.reuse_ms:
            return choice
        logger.warning(
            "with reuse the whole model is %.3g times as fast, less than %.3g, so all layers stay dense",
            trial.dense_ms / trial.reuse_ms,
            LEAST_SPEEDUP,
        )
        return {}

    def _warn_of_few_rows(self) -> None:
        rows = self.evaluator.rows
        if rows is None or not self.target.is_below_a_row(rows):
            return
        logger.warning(
            "one of the %d labelled samples for selection is worth %.2g of %s, more than may be lost (%.2g): so "
            "none that the original gets right may be lost at all; for more reuse give at least %d for selection",
            rows.rows,
            1.0 / rows.rows,
            self.metric.name,
            self.target.allowed_drop,
            math.ceil(1.0 / max(self.target.allowed_drop, DEFAULT_MAX_DROP)),
        )

    def _try(self, step: str, choice: Choice) -> Trial:
        """Fits a choice and measures it end to end on the samples for selection."""
        settings = settings_of(choice)
        what = f"trial {len(self.trials) + 1}"

        def score() -> Score:
            deployment = self.deployer.deploy(settings, self.options.reconstruct, self.progress, f"{what}: fitting")
            return self.evaluator.score(deployment.model(self.work), self.progress, f"{what}: measuring")

        by_layer = {layer: own.model_dump(mode="json", by_alias=True) for layer, own in settings.items()}
        # The metric's name says nothing of the output that it is about, as the option does.
        metric = f"{self.metric.name} {self.options.metric}"
        key = f"{metric} {self.options.reconstruct} {json.dumps(by_layer, sort_keys=True)}"
        found = self.state.remember("trials", key, Score, score)
        accepted = self.target.accepts(found.value, found.flips)
        trial = Trial(step=step, layers=settings, accepted=accepted, **found.model_dump())
        self.trials.append(trial)
        logger.info(
            "%s: %s %.6g (%s), %.4g ms in place of %.4g ms",
            step,
            self.metric.name,
            found.value,
            "accepted" if accepted else "refused",
            found.reuse_ms,
            found.dense_ms,
        )
        return trial

    def _check(self) -> None:
        """Fits the choice with each way of reconstruction, and measures it on the data that took no part."""
        held_out = Evaluator(
            self.original, self.parts.holdout, self.metric, self.options.threads, self.progress, "running held-out data"
        )
        # On this data even the original may have less than `at_least`, which is no reason to throw the result away.
        fixed = self.options.at_least is not None
        target = self.target if fixed else Target.make(self.metric, held_out.original, self.options.max_drop)
        settings = settings_of(self.choice)
        ways: tuple[Reconstruct, ...] = ("none", "statistics", "weights")
        for how in ways[: ways.index(self.options.reconstruct) + 1]:
            deployment = self.deployer.deploy(settings, how, self.progress, f"fitting ({how})")
            score = held_out.score(deployment.model(self.work), self.progress, f"checking ({how})")
            self.checks[how] = Check(
                samples=len(self.parts.holdout),
                original=held_out.original,
                target=target.value,
                within_budget=target.accepts(score.value),
                **score.model_dump(),
            )
            self.deployment = deployment
        if not self.checks[self.options.reconstruct].within_budget:
            logger.warning(
                "on the held-out data the accuracy budget is not kept (%s %.6g, original %.6g, to keep %.6g): give "
                "more samples, or a smaller --max-drop",
                self.metric.name,
                self.checks[self.options.reconstruct].value,
                held_out.original,
                target.value,
            )

    def layers(self) -> list[LayerCalibration]:
        """Returns what became of every Conv-like node, in graph order."""
        by_name = {layer.name: layer for layer in self.work.layers}
        return [self._layer(name, by_name.get(name)) for name in self.work.order]

    def _layer(self, name: str, layer: ConvLayer | None) -> LayerCalibration:
        if layer is None:
            return LayerCalibration(name=name, decision="dense", reason=self.work.dense[name])
        survey, chosen = self.surveys.get(name), self.choice.get(name)
        measurements = survey.measurements if survey else []
        errors = self.deployment.errors.get(name)
        return LayerCalibration(
            name=name,
            decision="reuse" if chosen else "dense",
            reason=self._reason(measurements, chosen),
            N=layer.geometry.rows,
            K=layer.geometry.columns,
            M=layer.geometry.out_channels,
            dense_ms=measurements[0].dense_ms if measurements else None,
            sensitivity=survey.sensitivity if survey else None,
            measurements=measurements,
            chosen=chosen,
            error_as_is=errors[0] if errors else None,
            error_reconstructed=errors[1] if errors else None,
        )

    def _reason(self, measurements: list[Measurement], chosen: Measurement | None) -> str:
        if chosen is not None:
            return f"{chosen.dense_ms / chosen.reuse_ms:.2g} times as fast alone, within the accuracy budget"
        if not measurements:
            return "the cost model expects no gain from any settings"
        best = min(measurements, key=lambda m: m.reuse_ms / m.dense_ms)
        if best.reuse_ms >= best.dense_ms:
            return f"no settings are faster: the best are {best.reuse_ms / best.dense_ms:.2g} times as slow"
        if not self.choice and any(trial.accepted for trial in self.trials):
            return "it gains alone, but the whole model hardly becomes faster"
        return "what it gains is not worth what it costs of the accuracy budget"


def multiply_adds(layer: ConvLayer) -> int:
    """Returns the multiply-adds of the dense layer."""
    g = layer.geometry
    return g.rows * g.columns * g.out_channels
