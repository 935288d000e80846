"""What the user of the calibration can choose; the command line and the Python API both fill this in."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reuse_compiler.fitting.reconstruct import Reconstruct
from reuse_compiler.options import RegularExpression
from reuse_compiler.reuse.config import FamilyName, Scope
from reuse_compiler.runtime import ProviderName

FamilyChoice = Literal[FamilyName, "all"]
Objective = Literal["latency", "operations"]
Strategy = Literal["search", "papers"]
BudgetName = Literal["quick", "default", "extensive"]

DEFAULT_MAX_DROP = 0.0005
"""Half a thousandth of accuracy: what the papers call no loss."""


class CalibrationOptions(BaseModel):
    """Choices for one calibration; None means that the calibration chooses (docs of `reuse-calibrate --help`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str | None = None
    """As `reuse_compiler.calibration.metrics.make_metric` takes it; None: top1 with labels, else by the output."""
    max_drop: float | None = Field(default=None, ge=0.0)
    """How much worse than the original's the metric may be; None: DEFAULT_MAX_DROP, unless `at_least` is given."""
    at_least: float | None = None
    """The value that the metric must reach instead (at most, for metrics of which less is better)."""
    objective: Objective = "latency"
    strategy: Strategy = "search"
    reconstruct: Reconstruct = "weights"
    family: FamilyChoice = "learned"
    scope: Scope = "batch"
    budget: BudgetName = "default"
    layers: RegularExpression | None = None
    """Regular expression searched in layer names: only these Convs are considered."""
    exclude: RegularExpression | None = None
    """Regular expression searched in layer names: these Convs stay dense."""
    holdout: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of the data that takes no part but in the last check."""
    provider: ProviderName = "cpu"
    """Where everything runs that is measured."""
    threads: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """Input shapes by name, for dynamic dimensions and batch sizes."""
