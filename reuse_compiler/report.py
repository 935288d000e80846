"""The report of a compilation, as written by `--report FILE.json`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class LayerReport(BaseModel):
    """One Conv of the model: what was decided and why, and what verification measured (None where not measured)."""

    model_config = ConfigDict(extra="forbid")

    name: str
    decision: Literal["reuse", "dense"]
    reason: str
    layout: str | None = None
    family: str | None = None
    L: int | None = None
    H: int | None = None
    scope: str | None = None
    table: str | None = None
    N: int | None = None
    """Rows of the unfolded input at the shapes used for choosing parameters."""
    K: int | None = None
    M: int | None = None
    predicted_cost: float | None = None
    """Expected operations relative to the dense layer (1.0)."""
    r_c: float | None = None
    """Measured remaining ratio: clusters per row of the unfolded input, mean over blocks and runs."""
    output_error: float | None = None
    """Relative L2 error of the layer's output against the original model's, with all earlier layers' reuse on."""


class ModelReport(BaseModel):
    """A whole compilation."""

    model_config = ConfigDict(extra="forbid")

    model: str
    output: str | None = None
    layers: list[LayerReport]
    max_abs_error: float | None = None
    rel_error: float | None = None
    dense_ms: float | None = None
    reuse_ms: float | None = None
    verified_on: str | None = None
    """What the verification ran on, in words."""
    fallback: bool = False
    """Whether the result runs without the operator library, too, as the original did."""
    threads: int | None = None
    versions: dict[str, str]
    options: dict[str, Any]
