"""The accuracy budget: which value of the metric has to be kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from reuse_compiler.calibration.metric_kinds import Metric
from reuse_compiler.calibration.options import DEFAULT_MAX_DROP, DropType
from reuse_compiler.calibration.report import Flips
from reuse_compiler.errors import ConfigError

FEWEST_ROWS = 256
STANDARD_ERRORS = 4.0
"""Rows that came out wrong must be so many, and exceed the budget by so much, for the rest not to be looked at. One
choice in hundreds that just keeps the budget is refused for it."""
ROUNDING = 1e-9
"""Two ways to sum up the same metric may differ by so much."""


@dataclass(frozen=True)
class Target:
    """A value of a metric that is good enough, as are all better ones."""

    metric: Metric
    value: float
    allowed_drop: float
    """From the original's value; infinite where that is."""

    @staticmethod
    def make(
        metric: Metric,
        original: float,
        max_drop: float | None = None,
        at_least: float | None = None,
        drop_type: DropType | None = None,
    ) -> Target:
        """Returns the target from the user's wish and the original model's value (with neither: DEFAULT_MAX_DROP).

        A relative drop is a share of the original's magnitude. Raises ConfigError if the wish makes no sense
        (`check_wish`) or if even the original does not come up to it.
        """
        check_wish(metric, max_drop, at_least, drop_type)
        if at_least is None:
            drop = DEFAULT_MAX_DROP if max_drop is None else max_drop
            if drop_type == "relative":
                if original == 0.0:
                    raise ConfigError(
                        f"--drop-type relative cannot be had: the original's {metric.name} is 0, of which there is no "
                        "share; give --drop-type absolute"
                    )
                drop *= abs(original)
            return Target(metric, original - drop if metric.higher_is_better else original + drop, drop)
        target = Target(metric, at_least, metric.drop(original, at_least))
        if not target.accepts(original):
            raise ConfigError(
                f"--at-least {at_least:g} cannot be had: the original model itself has {metric.name} {original:.6g} on "
                "this data; give --max-drop, or a value that the original keeps"
            )
        return target

    def halved(self, original: float) -> Target:
        """Returns the target of half the loss: of PSNR, which has no value of the original, half the squared error."""
        if math.isinf(original):
            return replace(self, value=self.value + 10 * math.log10(2), allowed_drop=math.inf)
        return replace(self, value=(original + self.value) / 2, allowed_drop=self.allowed_drop / 2)

    def spent(self, value: float) -> float:
        """Returns which share of what may be lost a value has lost, 1 being all of it; of PSNR that of the error."""
        if math.isinf(self.allowed_drop):
            return 10 ** ((self.value - value) / 20)
        lost = self.allowed_drop + self.metric.drop(self.value, value)
        return lost / self.allowed_drop if self.allowed_drop > 0 else math.nan

    def is_below_a_row(self, flips: Flips) -> bool:
        """Whether a single row counts more than may be lost, so that chance decides which model is better."""
        return 1.0 / flips.rows > max(self.allowed_drop, DEFAULT_MAX_DROP)

    def is_out_of_reach(self, flips: Flips) -> bool:
        """Whether some of the rows already show that all of them will not come up to the target."""
        if flips.rows < FEWEST_ROWS:
            return False
        return flips.drop - self.allowed_drop > STANDARD_ERRORS * flips.standard_error

    def accepts(self, value: float, flips: Flips | None = None) -> bool:
        """Whether a value is good enough; NaN never is.

        With `flips`, rows that come out right by chance do not make up for lost ones where the rows are too few.
        """
        if flips is not None and self.is_below_a_row(flips):
            value -= flips.gained / flips.rows
        if self.metric.higher_is_better:
            return value >= self.value - ROUNDING
        return value <= self.value + ROUNDING


def check_wish(
    metric: Metric, max_drop: float | None, at_least: float | None, drop_type: DropType | None = None
) -> None:
    """Raises ConfigError for a wish that no model can make true, before anything is run."""
    if drop_type is not None and at_least is not None:
        raise ConfigError("--drop-type is about --max-drop, and --at-least is given: leave --drop-type out")
    if max_drop is not None and at_least is not None:
        raise ConfigError("--max-drop and --at-least are two ways to say the same: give one of them")
    if max_drop is not None and max_drop < 0:
        raise ConfigError(f"--max-drop must not be negative, as {max_drop:g} is")
    if at_least is None:
        if metric.perfect is not None and math.isinf(metric.perfect):
            raise ConfigError(
                f"the metric {metric.name} has no value of the original to drop from: give --at-least, as "
                "in --at-least 35"
            )
    elif metric.drop(metric.best, at_least) < 0:
        raise ConfigError(
            f"--at-least {at_least:g} cannot be had: no model has {'more' if metric.higher_is_better else 'less'} than "
            f"{metric.best:g} of the metric {metric.name}"
        )
