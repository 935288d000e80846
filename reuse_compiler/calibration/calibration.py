"""A calibration from the model and its samples to the chosen layers: the steps, one after the other."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import onnx

from reuse_compiler.calibration.deploy import Deployer, Deployment
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.evaluate import Evaluator
from reuse_compiler.calibration.hold import held_inputs, hold_samples, tolerances
from reuse_compiler.calibration.int8 import quantise_on, spread
from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.calibration.metrics import Metric, Target
from reuse_compiler.calibration.options import DEFAULT_MAX_DROP, CalibrationOptions
from reuse_compiler.calibration.papers import papers_candidates, papers_choice
from reuse_compiler.calibration.report import (
    LEAST_SPEEDUP,
    Check,
    Int8Check,
    Score,
    Trial,
)
from reuse_compiler.calibration.samples import Samples, Split
from reuse_compiler.calibration.search import Choice, LayerChoices, Search, settings_of
from reuse_compiler.calibration.state import State
from reuse_compiler.calibration.survey import LayerSurvey, Survey
from reuse_compiler.calibration.tuning import tune_static_layers
from reuse_compiler.calibration.workers import SERIAL, Workers
from reuse_compiler.errors import ConfigError
from reuse_compiler.fitting.reconstruct import Reconstruct
from reuse_compiler.pipeline import apply_plan
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.reuse.config import HoldSettings, LayerSettings
from reuse_compiler.reuse.plan import incremental, within_memory
from reuse_compiler.verification.inputs import Feed

logger = logging.getLogger(__name__)

IN_FULL = "the choice, fitted to all rows"
MOST_IN_FULL = 2
"""Further choices that are fitted to all rows where the first one does not keep the budget then."""

STREAM_FRAMES = 4
"""Consecutive frames that layers of a stream are timed on."""
Way = Reconstruct | Literal["tuned"]
"""How weights were corrected: reconstruction, and tuning what that has made."""


@dataclass(frozen=True)
class Outcome:
    """What a calibration has found out."""

    target: Target
    surveys: Mapping[str, LayerSurvey]
    """What was measured, by layer; layers without candidates are left out."""
    trials: list[Trial]
    choice: Choice
    deployment: Deployment
    checks: Mapping[Way, Check]
    """The search's choice on held-out data by way of reconstruction; empty if it came to none. The choice above is
    empty all the same if it was no faster there."""
    way: Way
    """The way that was taken."""
    tuning: str | None = None
    """What came of tuning, with a budget that has it."""
    int8: Int8Check | None = None
    """What onnxruntime's int8 gives there, if that was asked for and could be had."""
    hold: HoldSettings | None = None
    """How a stream's inputs are held."""


@dataclass(frozen=True)
class _Checked:
    """The search's choice as it was fitted and checked."""

    deployment: Deployment
    checks: Mapping[Way, Check]
    way: Way
    tuning: str | None = None


@dataclass
class Calibration:
    """One calibration: measures the layers, chooses, fits the choice and checks it on data that was held out."""

    original: onnx.ModelProto
    work: Workpiece
    parts: Split
    metric: Metric
    options: CalibrationOptions
    state: State
    progress: ProgressCallback
    workers: Workers = SERIAL
    reference: onnx.ModelProto | None = None
    """The model beside which the accuracy budget is kept, in place of the original."""

    def __post_init__(self) -> None:
        self.effort = EFFORTS[self.options.budget]
        self._trials: list[Trial] = []
        self.hold: HoldSettings | None = None
        self.given = self.parts
        """The samples as the model gets them: those of a stream may be held."""

    def run(self) -> Outcome:
        """Does everything, in order; what was stored by an earlier run is taken from the state."""
        outcome = self._find()
        return replace(outcome, int8=self._int8()) if self.options.compare_int8 else outcome

    def _find(self) -> Outcome:
        # Known before the long work, so that a wish which even the original does not fulfil is refused at once.
        logger.info(
            "%s %.6g of the original, %.6g to be kept", self.metric.name, self.evaluator.original, self.target.value
        )
        self._warn_of_few_rows()
        self._check_itself()
        tolerances = self._hold_first() if self.options.stream else []
        if self.options.strategy == "papers":
            surveys = self.survey.measure(papers_candidates(self.work.layers, self.options))
            measurements = {name: survey.measurements for name, survey in surveys.items()}
            choice = papers_choice(measurements, self.work.layers, self._try)
        else:
            surveys = self.survey.measure(self.survey.wanted())
            choice = self._search(surveys)
        if not choice:
            return Outcome(self.target, surveys, self._trials, {}, Deployment(), {}, self.options.reconstruct)
        self._hold_more(choice, tolerances)
        if self.options.reconstruct == "weights":
            choice = self._settled(choice, surveys)
        found = self._check(choice)
        if self._seeks_time and not found.checks[found.way].is_faster:
            choice, found = {}, replace(found, deployment=Deployment())
        chosen = self.survey.with_bounds(choice)
        return Outcome(
            self.target,
            surveys,
            self._trials,
            chosen,
            found.deployment,
            found.checks,
            found.way,
            found.tuning,
            hold=self.hold if choice else None,
        )

    @property
    def _seeks_time(self) -> bool:
        """Whether a choice that is no faster is none; the papers' choice, and that of least operations, stands."""
        return self.options.strategy == "search" and self.options.objective == "latency"

    @cached_property
    def feeds(self) -> list[Feed]:
        """The runs that everything is fitted to."""
        fit = self.given.fit
        return [fit[index].feed for index in range(min(len(fit), self.effort.fit_runs))]

    @cached_property
    def survey(self) -> Survey:
        selection = self.given.selection
        frames = min(len(selection), STREAM_FRAMES if self.options.stream else 1)
        return Survey(
            self.work,
            self.feeds,
            [selection[index].feed for index in range(frames)],
            self.evaluator,
            self.options,
            self.effort,
            self.state,
            self.progress,
            self.workers,
            self._tolerance,
        )

    @cached_property
    def deployer(self) -> Deployer:
        return Deployer(self.work, self.feeds, self.effort, self.options.seed, self.workers)

    @cached_property
    def evaluator(self) -> Evaluator:
        return self._evaluator(self.parts.selection, "running the original model")

    @cached_property
    def target(self) -> Target:
        """The value of the metric to be kept on the samples for selection."""
        return Target.make(
            self.metric,
            self.evaluator.original,
            self.options.max_drop,
            self.options.at_least,
            self.options.drop_type,
        )

    @cached_property
    def held_out(self) -> Evaluator:
        evaluator = self._evaluator(self.parts.holdout, "running held-out data")
        evaluator.give(self.given.holdout)
        return evaluator

    @cached_property
    def _held_out_value(self) -> float:
        """The original's metric on the held-out data."""
        if self.reference is None:
            return self.held_out.original
        return self.held_out.value(self.original, self.progress, "comparing with the reference")[0]

    @cached_property
    def held_out_target(self) -> Target:
        """The value to be kept on the held-out data."""
        # On this data even the original may have less than `at_least`, which is no reason to throw the result away.
        if self.options.at_least is not None:
            return self.target
        original = self.held_out.original
        return Target.make(self.metric, original, self.options.max_drop, drop_type=self.options.drop_type)

    def _evaluator(self, samples: Samples, what: str) -> Evaluator:
        return Evaluator(
            self.original,
            samples,
            self.metric,
            self.options.threads,
            self.progress,
            what,
            self.workers,
            reference=self.reference,
            timed_runs=self.effort.timed_runs,
            in_order=self.options.stream,
        )

    def _hold_at(self, tolerance: float | None) -> None:
        self.hold = None if tolerance is None else HoldSettings(tolerances=(tolerance,))
        held = self.hold and hold_samples(self.parts, self.original, self.hold, self.options.shapes)
        self.given = held or self.parts
        self.evaluator.give(self.given.selection)

    def _hold_first(self) -> list[float]:
        """Holds the inputs as much as half of the budget allows: the layers are to have the rest.

        Returns the tolerances beyond.
        """
        found = tolerances(self.parts.fit, held_inputs(self.original, self.options.shapes))
        half = self.target.halved(self.evaluator.original)
        low, high = 0, len(found)
        while low < high:
            middle = (low + high) // 2
            self._hold_at(found[middle])
            what = f"inputs held within {found[middle]:g}"
            score = self.evaluator.score(self.work.prepared.model, self.progress, what)
            accepted = half.accepts(score.value, score.flips)
            low, high = (middle + 1, high) if accepted else (low, middle)
            self._trials.append(self._trial(what, {}, score, accepted))
        self._hold_at(found[low - 1] if low else None)
        return found[low:]

    def _hold_more(self, choice: Choice, more: Sequence[float]) -> None:
        """Holds the inputs of what was chosen with what is left of the budget."""
        for tolerance in more:
            before = self.hold
            self._hold_at(tolerance)
            if not self._try(f"the choice, with inputs held within {tolerance:g}", choice).accepted:
                self._hold_at(before.tolerances[0] if before else None)
                return

    def _search(self, surveys: Mapping[str, LayerSurvey]) -> Choice:
        layers = {layer.name: layer for layer in self.work.layers}
        choices = [
            LayerChoices(name, layers[name].spec.multiply_adds, survey.sensitivity, survey.measurements)
            for name, survey in surveys.items()
        ]
        search = Search(
            choices,
            self.options.objective,
            self._try,
            self.effort.trials,
            spent=lambda trial: self.target.spent(trial.value),
        )
        return self._worth_it(search.run(), surveys)

    def _worth_it(self, choice: Choice, surveys: Mapping[str, LayerSurvey]) -> Choice:
        """Returns the choice if the whole model became faster with it; else the best that was tried, or none."""
        if not choice or not self._seeks_time:
            return choice
        tried = [trial for trial in self._trials if trial.layers and trial.accepted]
        kept = [trial for trial in tried if trial.dense_ms > LEAST_SPEEDUP * trial.reuse_ms]
        if not kept or any(trial.layers == settings_of(choice) for trial in kept):
            return choice if kept else {}
        best = min(kept, key=lambda trial: trial.reuse_ms / trial.dense_ms)
        return _choice_of(best, surveys)

    def _settled(self, choice: Choice, surveys: Mapping[str, LayerSurvey]) -> Choice:
        """Returns the choice if it keeps the budget fitted in full, else the fastest tried one that does.

        The draft that does best may have been lucky. Where no other keeps the budget either, the choice stands.
        """
        full = self._tried(IN_FULL, settings_of(choice), draft=False)
        if full.accepted or not self._seeks_time:
            return choice
        drafts = [trial for trial in self._trials if trial.accepted and trial.layers and trial.layers != full.layers]
        drafts = [trial for trial in drafts if trial.tolerance == self._tolerance]
        drafts.sort(key=lambda trial: trial.reuse_ms / trial.dense_ms)
        for trial in drafts[:MOST_IN_FULL]:
            if trial.dense_ms > LEAST_SPEEDUP * trial.reuse_ms and self._tried(IN_FULL, trial.layers, False).accepted:
                return _choice_of(trial, surveys)
        return choice

    def _check_itself(self) -> None:
        """Refuses a budget that even the model as it is does not keep beside the reference."""
        if self.reference is None:
            return
        value, flips = self.evaluator.value(self.original, self.progress, "comparing with the reference")
        if not self.target.accepts(value, flips):
            raise ConfigError(
                f"the model as it is has {self.metric.name} {value:.6g} beside the reference, where "
                f"{self.target.value:.6g} is to be kept: give a looser --max-drop or --at-least, or quantise less"
            )

    def _warn_of_few_rows(self) -> None:
        rows = self.evaluator.rows
        if not self.metric.needs_labels or rows is None or not self.target.is_below_a_row(rows):
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
        """Fits a draft of a choice and measures it end to end on the samples for selection."""
        return self._tried(step, settings_of(choice), draft=True)

    def _tried(self, step: str, settings: dict[str, LayerSettings], draft: bool) -> Trial:
        """Measures settings end to end on the samples for selection."""
        what = f"trial {len(self._trials) + 1}"

        def score() -> Score:
            return self.evaluator.score(
                self._model(self._deployed(settings, draft, f"{what}: fitting")),
                self.progress,
                f"{what}: measuring",
                self.target.is_out_of_reach,
                self.target.accepts,
            )

        by_layer = {layer: own.model_dump(mode="json", by_alias=True) for layer, own in settings.items()}
        # The metric's name says nothing of the output that it is about, as the option does.
        metric = f"{self.metric.name} {self.options.metric}"
        key = f"{metric} {self.options.reconstruct} {draft} {json.dumps(by_layer, sort_keys=True)}"
        key += f" {self._tolerance:g}" if self.hold else ""
        found = self.state.remember("trials", key, Score, score)
        if found.stopped_after is not None and found.flips and not self.target.is_out_of_reach(found.flips):
            # It was stored by a calibration with a smaller budget.
            found = self.state.remember("trials", f"{key} {self.target.allowed_drop:g}", Score, score)
        accepted = self.target.accepts(found.value, found.flips)
        trial = self._trial(step, settings, found, accepted)
        self._trials.append(trial)
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

    @property
    def _tolerance(self) -> float | None:
        return self.hold.tolerances[0] if self.hold else None

    def _trial(self, step: str, settings: dict[str, LayerSettings], score: Score, accepted: bool) -> Trial:
        return Trial(step=step, layers=settings, tolerance=self._tolerance, accepted=accepted, **score.model_dump())

    def _deployed(self, settings: Mapping[str, LayerSettings], draft: bool, what: str) -> Deployment:
        return self.deployer.deploy(settings, self.options.reconstruct, self.progress, what, draft)

    def _in_full(self, choice: Choice) -> Deployment:
        """Returns the choice with all that is to be fitted, or the draft that was tried if that does better."""
        settings = settings_of(choice)
        of_it = (trial for trial in self._trials if trial.layers == settings)
        tried = [trial for trial in of_it if trial.tolerance == self._tolerance]
        drafts = [trial for trial in tried if trial.step != IN_FULL]
        full = next(trial for trial in tried if trial.step == IN_FULL)
        found = self._deployed(settings, False, "fitting (weights)")
        if not drafts or (full.accepted and full.output_error <= drafts[-1].output_error):
            return found
        self._trials.append(drafts[-1].model_copy(update={"step": "its draft again, which does better"}))
        return self.deployer.with_plan(self._deployed(settings, True, "fitting (weights)").plan, found)

    def _model(self, deployment: Deployment) -> onnx.ModelProto:
        plan = within_memory(deployment.plan, self.options.table_memory * 2**20)
        return apply_plan(self.work.prepared, incremental(plan) if self.options.stream else plan).model

    def _check(self, choice: Choice) -> _Checked:
        """Fits a choice with each way of reconstruction, and measures them on the data that took no part."""
        checks: dict[Way, Check] = {}
        ways: tuple[Reconstruct, ...] = ("none", "statistics", "weights")
        last = ways.index(self.options.reconstruct)
        for how in ways[0 if self.effort.compares else last : last + 1]:
            if how == "weights":
                deployment = self._in_full(choice)
            else:
                deployment = self.deployer.deploy(settings_of(choice), how, self.progress, f"fitting ({how})")
            checks[how] = self._checked(deployment, how, last=how == self.options.reconstruct)
        found = _Checked(deployment, checks, self.options.reconstruct)
        if self.effort.tune_steps and self.options.reconstruct == "weights":
            found = self._tuned(found)
        check = found.checks[found.way]
        if not check.within_budget:
            logger.warning(
                "on the held-out data the accuracy budget is not kept (%s %.6g, original %.6g, to keep %.6g): give "
                "more samples, or a smaller --max-drop",
                self.metric.name,
                check.value,
                self.held_out.original,
                self.held_out_target.value,
            )
        return found

    def _checked(self, deployment: Deployment, way: Way, last: bool) -> Check:
        score = self.held_out.score(self._model(deployment), self.progress, f"checking ({way})")
        if last and score.reuse_ms >= score.dense_ms:
            # Much hangs on this time, and a busy machine may have been what was slow.
            score = self.held_out.score(self._model(deployment), self.progress, "checking again")
        return Check(**self._judged(score))

    def _tuned(self, found: _Checked) -> _Checked:
        """Tunes what was found; that is taken if it is better on the samples for selection, which it has not seen."""
        options, before = self.options, found.deployment
        tuned = tune_static_layers(
            self.work, before.plan, self.given.fit, self.effort.tune_steps, options.seed, self.progress
        )
        if tuned.plan is None:
            return replace(found, tuning=tuned.words)
        after = self.deployer.with_plan(tuned.plan, before)
        scores = [
            self.evaluator.score(self._model(own), self.progress, f"comparing ({way})")
            for own, way in ((before, found.way), (after, "tuned"))
        ]
        better = self._rank(scores[1]) > self._rank(scores[0])
        values = " and ".join(f"{score.value:.6g}" for score in scores)
        words = f"{tuned.words}; {self.metric.name} {values} on the samples for selection: "
        checks = {**found.checks, "tuned": self._checked(after, "tuned", last=better)}
        words += "taken" if better else "not taken"
        logger.info("tuning: %s", words)
        return _Checked(after, checks, "tuned", words) if better else replace(found, checks=checks, tuning=words)

    def _rank(self, score: Score) -> tuple[float, float]:
        """Returns what is larger of the better model: by the metric, and where that is the same, by the error."""
        return (score.value if self.metric.higher_is_better else -score.value, -score.output_error)

    def _judged(self, score: Score) -> dict[str, Any]:
        """Returns the fields of a `Check`."""
        return {
            **score.model_dump(),
            "samples": len(self.parts.holdout),
            "original": self._held_out_value,
            "reference": None if self.reference is None else self.held_out.original,
            "target": self.held_out_target.value,
            "within_budget": self.held_out_target.accepts(score.value),
        }

    def _int8(self) -> Int8Check | None:
        """Quantises the original on the samples for fitting, and measures that on the data that took no part."""
        try:
            quantised = quantise_on(self.original, spread(self.parts.fit), self.options.threads, self.progress)
        except Exception as error:  # whatever onnxruntime's quantiser raises for a model that it cannot quantise
            logger.warning("onnxruntime cannot quantise the model, so there is no int8 to compare with: %s", error)
            return None
        self.held_out.give(self.parts.holdout)
        score = self.held_out.score(quantised.model, self.progress, "checking int8")
        return Int8Check(**self._judged(score), form=quantised.form)


def _choice_of(trial: Trial, surveys: Mapping[str, LayerSurvey]) -> Choice:
    return {
        name: next(each for each in surveys[name].measurements if each.settings == settings)
        for name, settings in trial.layers.items()
    }
