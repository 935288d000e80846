"""When a loss has stopped falling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reuse_compiler.errors import ConfigError


@dataclass(frozen=True)
class TrendOptions:
    """What counts as falling."""

    window: int = 100
    """Steps whose losses are averaged: single batches say little."""
    patience: int = 2
    """Windows without a new lowest mean until the loss has stopped falling."""
    least_decrease: float = 0.01
    """Of the lowest mean so far, relatively: what counts as a new lowest one."""

    def __post_init__(self) -> None:
        if self.window < 1 or self.patience < 1 or not 0.0 <= self.least_decrease < 1.0:
            raise ConfigError(f"window and patience must be at least 1, least_decrease from 0 up to 1: {self}")


class LossTrend:
    """Follows a loss, window by window."""

    def __init__(self, options: TrendOptions) -> None:
        self._options = options
        self.restart()

    def restart(self) -> None:
        """Forgets everything: what was reached with other settings says nothing about the present ones."""
        self._sum, self._steps, self._windows = 0.0, 0, 0
        self._lowest = float("inf")

    def add(self, loss: float) -> bool:
        """Returns whether the loss has stopped falling. A loss that is not a number never falls."""
        self._sum += loss
        self._steps += 1
        if self._steps < self._options.window:
            return False
        mean = self._sum / self._steps
        self._sum, self._steps = 0.0, 0
        if mean < self._lowest - self._options.least_decrease * abs(self._lowest) or self._lowest == float("inf"):
            self._lowest, self._windows = mean, 0
            return False
        self._windows += 1
        return self._windows >= self._options.patience

    def state_dict(self) -> dict[str, float]:
        """Returns all that is followed."""
        return {"sum": self._sum, "steps": self._steps, "windows": self._windows, "lowest": self._lowest}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Goes on from there."""
        self._sum, self._lowest = state["sum"], state["lowest"]
        self._steps, self._windows = int(state["steps"]), int(state["windows"])
