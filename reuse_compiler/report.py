"""The report of a compilation, as written by `--report FILE.json`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Report(BaseModel):
    """Base of everything that is written as JSON; unknown fields are an error when it is read again."""

    model_config = ConfigDict(extra="forbid")


class LayerReport(Report):
    """One Conv of the model: what was decided and why, and what verification measured (None where not measured)."""

    name: str
    decision: Literal["reuse", "dense"]
    reason: str
    layout: str | None = None
    family: str | None = None
    L: int | None = None
    H: int | None = None
    scope: str | None = None
    table: str | None = None
    table_bytes: int | None = None
    """What the tables of a layer of scope static take."""
    keeps_tables: bool | None = None
    """Whether they are made once and kept, or made in each run, which takes as much for that time."""
    incremental: bool | None = None
    """Whether the layer keeps what it has computed between runs and computes what has changed (--stream)."""
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


class RegionReport(Report):
    """A part of the model in two forms: with reuse, taken where its input repeats enough, and as it was."""

    source: str
    """The tensor of which a sample tells how much repeats."""
    layers: list[str]
    """The convolutions that use reuse."""
    needed: float
    """The share of repeated vectors from which on the form with reuse is taken, if it is alike in all layers."""
    saves: float
    """The share of the part's time that is saved where everything repeats."""
    measured: bool
    """Whether the last two were measured on this machine; else they are what the cost model expects."""


class HoldReport(Report):
    """How inputs are held (--hold), and what that costs on frames in their order, if some were given."""

    inputs: list[str]
    tolerances: tuple[float, ...]
    opening: int
    dilation: int
    patience: int
    frames: int | None = None
    changed: float | None = None
    """Share of the pixels that took a new value, of all frames; the first takes all as they are."""
    input_psnr: float | None = None
    """Of the held input beside the input, in dB; infinite (null in JSON) if they are equal."""
    output_psnr: float | None = None
    """Of the outputs of the compiled model beside the original's, with its inputs held: the lowest."""


class ModelReport(Report):
    """A whole compilation."""

    model: str
    output: str | None = None
    layers: list[LayerReport]
    regions: list[RegionReport] = []
    """The parts in two forms, in order; layers of none of them always run as decided."""
    added_bytes: int = 0
    """What the weights of the second forms take, in the file and in memory."""
    table_bytes: int = 0
    """What the tables that static layers keep take in memory; the file does not have them."""
    max_abs_error: float | None = None
    rel_error: float | None = None
    dense_ms: float | None = None
    reuse_ms: float | None = None
    repeating_ms: tuple[float, float] | None = None
    """The same on an input of which three quarters repeat, if the model has regions and nobody gave inputs."""
    verified_on: str | None = None
    """What the verification ran on, in words."""
    hold: HoldReport | None = None
    """If inputs are held. All other errors and times are those of the model that holds nothing."""
    fallback: bool = False
    """Whether the result runs without the operator library, too, as the original did."""
    threads: int | None = None
    versions: dict[str, str]
    options: dict[str, Any]
