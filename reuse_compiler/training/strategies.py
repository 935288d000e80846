"""The training paper's strategies (section V), as schedulers for any training loop.

1. `FixedStrategy`: the same {L, H} throughout.
2. `AdaptiveStrategy`: from much reuse to little, through an ordered list of settings (Policy 3), whenever the loss has
   stopped falling; which of them is next is found by trying them (Amendments 3.1 to 3.3).
3. `ClusterReuseStrategy`: clusters are reused across batches until the loss has stopped falling, then no more.

Call `step(loss, evaluate)` once per training step. In distributed training every rank calls it in every step; losses
and accuracies are averaged over the ranks, so all of them switch together. This module is logic only: what a switch
does to a model is handed in as a function.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reuse_compiler.errors import ConfigError
from reuse_compiler.training.distributed import agreed
from reuse_compiler.training.loss_trend import LossTrend, TrendOptions

logger = logging.getLogger(__name__)

Evaluate = Callable[[], float]
"""Accuracy, 0 to 1, of the model with its present settings, on a batch that stays the same within a step."""

LOW_ACCURACY = 0.5
LOW_ACCURACY_RATIO = 1.5
"""Amendment 3.1: below the former, the next settings must be better by this factor."""
HIGH_ACCURACY_GAIN = 0.1
"""Amendment 3.2: above it, better by so much."""
SMALL_RATIO = 1.1
"""Amendment 3.3: where no settings are so much better, the next ones that are better by this factor."""


@dataclass(frozen=True)
class Switch:
    """One change of settings."""

    step: int
    loss: float
    before: int
    """Stage, counted from 0."""
    after: int
    reason: str
    accuracies: dict[int, float] = field(default_factory=dict)
    """By stage that was tried."""


class Strategy(ABC):
    """Watches the loss and changes how much a model reuses."""

    def __init__(self) -> None:
        self.steps = 0
        self.switches: list[Switch] = []
        self.stage = 0

    def step(self, loss: float, evaluate: Evaluate) -> Switch | None:
        """Takes note of a training step's loss; returns the switch if there was one."""
        self.steps += 1
        switch = self._react(agreed(loss), evaluate)
        if switch is not None:
            self.switches.append(switch)
            logger.info(
                "step %d: stage %d -> %d at loss %.4g: %s",
                switch.step,
                switch.before,
                switch.after,
                switch.loss,
                switch.reason,
            )
        return switch

    @abstractmethod
    def _react(self, loss: float, evaluate: Evaluate) -> Switch | None: ...

    @abstractmethod
    def _apply(self) -> None:
        """Makes the model what the present stage says."""

    def state_dict(self) -> dict[str, Any]:
        """Returns all that a checkpoint needs."""
        return {"steps": self.steps, "stage": self.stage, "switches": [asdict(switch) for switch in self.switches]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint: also changes the model to the settings that it had."""
        self.steps, self.stage = state["steps"], state["stage"]
        self.switches = [Switch(**switch) for switch in state["switches"]]
        self._apply()


class FixedStrategy(Strategy):
    """Strategy 1."""

    def _react(self, loss: float, evaluate: Evaluate) -> Switch | None:
        return None

    def _apply(self) -> None:
        return


class _TrendStrategy(Strategy):
    """A strategy that acts when the loss has stopped falling."""

    def __init__(self, trend: TrendOptions | None) -> None:
        super().__init__()
        self._trend = LossTrend(trend or TrendOptions())

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"trend": self._trend.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._trend.load_state_dict(state["trend"])


class AdaptiveStrategy(_TrendStrategy):
    """Strategy 2: `apply(stage)` sets the model to one of `stages` settings, in their order."""

    def __init__(self, stages: int, apply: Callable[[int], None], trend: TrendOptions | None = None) -> None:
        super().__init__(trend)
        if stages < 1:
            raise ConfigError(f"there must be at least one stage, not {stages}")
        self._stages, self._set = stages, apply
        self._apply()

    def _apply(self) -> None:
        self._set(self.stage)

    def _react(self, loss: float, evaluate: Evaluate) -> Switch | None:
        if self.stage + 1 == self._stages or not self._trend.add(loss):
            return None
        self._trend.restart()
        accuracies = {self.stage: agreed(evaluate())}
        before = self.stage
        self.stage, reason = self._next(accuracies, evaluate)
        self._apply()
        return Switch(self.steps, loss, before, self.stage, reason, accuracies)

    def _next(self, accuracies: dict[int, float], evaluate: Evaluate) -> tuple[int, str]:
        """Returns the stage to go on with; what is measured on the way is added to `accuracies`."""
        now = accuracies[self.stage]
        for stage in range(self.stage + 1, self._stages):
            self._set(stage)
            accuracies[stage] = agreed(evaluate())
            if now < LOW_ACCURACY and accuracies[stage] >= LOW_ACCURACY_RATIO * now:
                return stage, f"{LOW_ACCURACY_RATIO} times the accuracy (Amendment 3.1)"
            if now >= LOW_ACCURACY and accuracies[stage] - now >= HIGH_ACCURACY_GAIN:
                return stage, f"{HIGH_ACCURACY_GAIN} more accuracy (Amendment 3.2)"
        for stage in range(self.stage + 1, self._stages):
            if accuracies[stage] >= SMALL_RATIO * now:
                return stage, f"{SMALL_RATIO} times the accuracy (Amendment 3.3)"
        # What is skipped throughout ends at the last settings, those with the least error.
        return self._stages - 1, "no settings help noticeably: the most exact ones (Amendment 3.3, all skipped)"


class ClusterReuseStrategy(_TrendStrategy):
    """Strategy 3: `apply(True)` makes the model reuse clusters across batches, `apply(False)` ends that."""

    def __init__(self, apply: Callable[[bool], None], trend: TrendOptions | None = None) -> None:
        super().__init__(trend)
        self._set = apply
        self._apply()

    def _apply(self) -> None:
        self._set(self.stage == 0)

    def _react(self, loss: float, evaluate: Evaluate) -> Switch | None:
        if self.stage == 1 or not self._trend.add(loss):
            return None
        self.stage = 1
        self._apply()
        return Switch(self.steps, loss, 0, 1, "clusters are no longer reused across batches")
