"""Chooses how each layer is computed: the least time whose harm to the output the accuracy budget allows.

Harm is taken to add up: a layer's squared relative error, times its sensitivity, is what it adds to the squared
relative error of the model's output. Under that assumption the best choices for all budgets form a path, from all
layers dense to the fastest of each, whose steps become ever dearer. How far along it the metric keeps its target is
found by measurement, end to end, with each choice fitted and reconstructed as a whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import exp, inf, isfinite, log, nan

from reuse_compiler.calibration.options import Objective
from reuse_compiler.calibration.report import Measurement, Trial
from reuse_compiler.reuse.config import LayerSettings

Choice = dict[str, Measurement]
"""By layer with reuse: how."""


@dataclass(frozen=True)
class Step:
    """Gives one layer other settings: saves `gain` (milliseconds, or operations) and adds `harm` to the output."""

    layer: str
    measurement: Measurement
    gain: float
    harm: float


@dataclass(frozen=True)
class LayerChoices:
    """What was measured of a layer, and what its squared relative error adds to the output's."""

    name: str
    multiply_adds: int
    sensitivity: float
    measurements: Sequence[Measurement]

    def steps(self, objective: Objective) -> list[Step]:
        """Returns the steps from the dense layer to the fastest candidate, each with more harm per gain than the last.

        Candidates above the convex hull of (gain, harm) are never the best choice.
        """
        points = sorted(
            (self._gain(measurement, objective), self._harm(measurement), index)
            for index, measurement in enumerate(self.measurements)
            if isfinite(self._harm(measurement))  # not where a result has come out as NaN or Inf
        )
        hull: list[tuple[float, float, int]] = [(0.0, 0.0, -1)]
        for point in points:
            if point[0] <= 0.0:
                continue
            while len(hull) > 1 and (point[1] <= hull[-1][1] or _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point)):
                hull.pop()
            if point[0] > hull[-1][0]:
                hull.append(point)
        return [
            Step(self.name, self.measurements[after[2]], after[0] - before[0], max(after[1] - before[1], 0.0))
            for before, after in pairwise(hull)
        ]

    def between(self, chosen: Measurement | None, refused: Measurement, objective: Objective) -> list[Measurement]:
        """Returns candidates that gain more than the chosen one and harm less than the refused one, least gain first.

        They lie above the hull, whose steps are coarse where a layer has few of them; no other candidate gains more and
        harms less than one of these.
        """
        least, most = 0.0 if chosen is None else self._gain(chosen, objective), self._harm(refused)
        found: list[Measurement] = []
        for measurement in sorted(self.measurements, key=lambda m: self._gain(m, objective), reverse=True):
            if self._gain(measurement, objective) > least and self._harm(measurement) < most:
                most = self._harm(measurement)
                found.append(measurement)
        return found[::-1]

    def most_gain(self, objective: Objective) -> float:
        """Returns what the best candidate gains."""
        return max((self._gain(measurement, objective) for measurement in self.measurements), default=0.0)

    def _gain(self, measurement: Measurement, objective: Objective) -> float:
        if objective == "operations":
            return self.multiply_adds * (1.0 - measurement.operations)
        return measurement.dense_ms - measurement.reuse_ms

    def _harm(self, measurement: Measurement) -> float:
        return self.sensitivity * measurement.output_error**2


def _slope(a: tuple[float, float, int], b: tuple[float, float, int]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0]) if b[0] > a[0] else float("inf")


def path_of(layers: Sequence[LayerChoices], objective: Objective) -> list[Step]:
    """Returns all layers' steps, those with the least harm per gain first; a layer's own stay in order."""
    steps = [step for layer in layers for step in layer.steps(objective)]
    return sorted(steps, key=lambda step: step.harm / step.gain)


def choice_after(steps: Sequence[Step]) -> Choice:
    """Returns what the layers are after some steps."""
    return {step.layer: step.measurement for step in steps}


FIRST_SHARE = 4
"""The first choice that is tried has one in so many of the path's steps: most budgets end before it, and later choices
take longer to fit."""
FIRST_POWER, LEAST_POWER, MOST_POWER = 0.5, 0.25, 2.0
"""What is spent of a budget grows with a power of the harm; what it is before two trials tell, and its bounds."""

TryChoice = Callable[[str, Choice], Trial]
"""Fits and measures a choice end to end; the text says how it came about."""


@dataclass
class Search:
    """Finds the furthest choice that keeps the budget, with at most `trials` measured end to end."""

    layers: Sequence[LayerChoices]
    objective: Objective
    try_choice: TryChoice
    trials: int
    spent: Callable[[Trial], float] = lambda trial: nan
    """Which share of the budget a trial has spent, 1 being all of it; NaN: unknown."""
    _closed: dict[str, Measurement] = field(default_factory=dict)
    """By layer: the next step that harms too much."""

    def __post_init__(self) -> None:
        self.path = path_of(self.layers, self.objective)

    def run(self) -> Choice:
        """Returns the fastest choice that was accepted; empty if none was."""
        return self._refine(self._win_back(*self._bisect()))

    def _bisect(self) -> tuple[Choice, list[Step]]:
        """Returns the furthest accepted choice along the path, and the steps to it; closes the layer after it.

        What a trial has spent of the budget tells where it will be used up: that is tried next.
        """
        low, high = 0, len(self.path) + 1
        accepted: list[Step] = []
        harms = list(accumulate(step.harm for step in self.path))
        known: list[tuple[float, float]] = []
        next_one = max(1, len(self.path) // FIRST_SHARE)
        while high - low > 1 and self.trials > 0:
            middle = min(max(next_one, low + 1), high - 1)
            trial = self._tried(f"the first {middle} of {len(self.path)} steps", choice_after(self.path[:middle]))
            if trial.accepted:
                low, accepted = middle, list(self.path[:middle])
            else:
                high = middle
            known.append((harms[middle - 1], self.spent(trial)))
            harm = harm_allowed(known)
            next_one = (low + high) // 2 if harm is None else bisect_right(harms, harm)
        if high - low == 1 and high <= len(self.path):
            self._close(self.path[low])  # the choice with that step was refused
        return choice_after(accepted), accepted

    def _win_back(self, best: Choice, taken: list[Step]) -> Choice:
        """Tries the steps that were not taken one by one; one that harms too much ends its layer's part."""
        for step in self.path[len(taken) :]:
            if self.trials <= 0:
                break
            if step.layer in self._closed:
                continue
            longer = [*taken, step]
            if self._accepted(f"one more step for {step.layer}", choice_after(longer)):
                taken, best = longer, choice_after(longer)
            else:
                self._close(step)
        return best

    def _refine(self, best: Choice) -> Choice:
        """Tries candidates between the accepted and the refused ones, by bisection; layers that can gain most first."""
        for layer in sorted(self.layers, key=lambda own: own.most_gain(self.objective), reverse=True):
            if layer.name not in self._closed:
                continue
            between = layer.between(best.get(layer.name), self._closed[layer.name], self.objective)
            low, high = 0, len(between)
            while low < high and self.trials > 0:
                middle = (low + high) // 2
                other = {**best, layer.name: between[middle]}
                if self._accepted(f"other settings for {layer.name}", other):
                    low, best = middle + 1, other
                else:
                    high = middle
        return best

    def _close(self, step: Step) -> None:
        self._closed[step.layer] = step.measurement

    def _accepted(self, how: str, choice: Choice) -> bool:
        return self._tried(how, choice).accepted

    def _tried(self, how: str, choice: Choice) -> Trial:
        self.trials -= 1
        return self.try_choice(how, choice)


def harm_allowed(known: Sequence[tuple[float, float]]) -> float | None:
    """Returns the harm that is expected to spend the whole budget, from pairs of harm and share spent.

    The two that are nearest to it give the power of one with which the other grows. None: they tell nothing.
    """
    usable = [(log(harm), log(spent)) for harm, spent in known if 0.0 < harm < inf and 0.0 < spent < inf]
    if not usable:
        return None
    (harm, spent), *others = sorted(usable, key=lambda point: abs(point[1]))
    power = FIRST_POWER
    if others and others[0][0] != harm:
        slope = (spent - others[0][1]) / (harm - others[0][0])
        power = min(max(slope, LEAST_POWER), MOST_POWER)
    return exp(min(harm - spent / power, 700.0))  # what exp can take


def settings_of(choice: Choice) -> dict[str, LayerSettings]:
    """Returns the settings by layer."""
    return {layer: measurement.settings for layer, measurement in choice.items()}
