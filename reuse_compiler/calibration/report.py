"""The report of a calibration, as written by `--report DIR` into report.json and drawn in report.html."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from reuse_compiler.reuse.config import HoldSettings, LayerSettings

Measured = Annotated[float, Field(ge=0)]
"""A time or a ratio; a file may hold any number, and choices would follow from a negative one."""
CONFIG = ConfigDict(extra="forbid", ser_json_inf_nan="strings")
"""In JSON, numbers that are infinite or not a number are the strings of that name: they read back as what they were."""


LEAST_SPEEDUP = 1.03
"""Of the whole model: less is within what times vary by, and not worth any accuracy."""


class Measurement(BaseModel):
    """One way to rewrite a layer, measured on the layer alone with the original model's input."""

    model_config = CONFIG

    settings: LayerSettings
    r_c: Measured
    output_error: float
    """Relative L2 error of the layer's result, activation included, against the dense layer's."""
    error_bound: float | None = None
    """The inference paper's bound (Eq. 2) for it, relative likewise; of chosen settings only."""
    dense_ms: Measured
    reuse_ms: Measured
    """Medians of interleaved runs of the layer alone, activation included."""
    operations: Measured
    """Operations as the papers count them (`reuse.cost.counted_operations`), relative to the dense layer."""


class LayerCalibration(BaseModel):
    """One Conv of the model: what was measured, decided and why."""

    model_config = CONFIG

    name: str
    decision: Literal["reuse", "dense"]
    reason: str
    N: int | None = None
    K: int | None = None
    M: int | None = None
    dense_ms: float | None = None
    sensitivity: float | None = None
    """Squared relative error of the model's output per squared relative error of this layer's result."""
    measurements: list[Measurement] = Field(default_factory=list)
    chosen: Measurement | None = None
    error_as_is: float | None = None
    """Relative L2 error of the layer's result with the earlier layers' reuse on, before reconstruction."""
    error_reconstructed: float | None = None
    """The same after it, on samples that did not take part in it."""


class Flips(BaseModel):
    """Rows of the output that a model gets right and the original does not, or the other way round."""

    model_config = CONFIG

    rows: int
    lost: int
    gained: int

    @property
    def drop(self) -> float:
        """The difference in the share of right rows; positive if the model has fewer."""
        return (self.lost - self.gained) / self.rows

    @property
    def standard_error(self) -> float:
        """Of that difference, were other rows drawn."""
        variance = (self.gained + self.lost) / self.rows - self.drop * self.drop
        return math.sqrt(max(variance, 0.0) / self.rows)


class Score(BaseModel):
    """How a model does beside the original on some samples."""

    model_config = CONFIG

    value: float
    """The metric."""
    drop: float
    """From the original's, or the reference's if there is one."""
    output_error: float
    """Relative L2 error of the model's outputs, the largest of them."""
    dense_ms: Measured
    reuse_ms: Measured
    """Medians of interleaved runs."""
    flips: Flips | None = None
    """Of metrics that count right rows."""
    stopped_after: int | None = None
    """The number of runs after which it was clear that the budget is not kept. The others were not made, and the metric
    is what these let expect."""

    @property
    def is_faster(self) -> bool:
        """Whether the model takes less time than the original."""
        return self.reuse_ms < self.dense_ms


class Trial(Score):
    """One choice for the whole model, measured end to end on the samples for selection."""

    step: str
    """What the search did to come to it."""
    layers: dict[str, LayerSettings]
    tolerance: float | None = None
    """Within which inputs were held, if they were."""
    accepted: bool
    """Whether it keeps the accuracy budget."""


class Check(Score):
    """The chosen model on the data that took no part."""

    samples: int
    """Runs of the model."""
    original: float
    """The metric of the original model."""
    reference: float | None = None
    """That of the reference, if there is one: where the original's differs from it, something was lost before."""
    target: float | None = None
    """What the value had to come up to here: the original may be better or worse on these samples than on those that
    settings were chosen on. None in reports of versions that did not write it."""
    within_budget: bool


class Int8Check(Check):
    """onnxruntime's statically quantised model on the same data."""

    form: str
    """Its format and types: those that run fastest."""


class ClusterPicture(BaseModel):
    """Which pixels of a layer share a cluster: ids of one block as rows of the picture, for one sample."""

    model_config = CONFIG

    layer: str
    block: int
    ids: list[list[int]]
    image: list[list[list[int]]] | None = None
    """The input as an RGB picture `[H][W][3]`, 0..255, if the model takes images."""


class CalibrationReport(BaseModel):
    """A whole calibration."""

    model_config = CONFIG

    model: str
    reference: str | None = None
    """The model beside which the accuracy budget is kept, if it is another one."""
    output: str | None = None
    """The configuration file."""
    data: str
    """The samples, in words."""
    metric: str
    higher_is_better: bool
    hold: HoldSettings | None = None
    """How inputs are held, if the samples are a stream and the budget allows it."""
    target: float
    """The value of the metric that had to be kept on the samples for selection."""
    layers: list[LayerCalibration]
    trials: list[Trial]
    reconstruction: dict[str, Check]
    """The chosen layers on the held-out data with each way of reconstruction that was asked for; `none` always, and
    `tuned` where tuning made something of the last one."""
    tuning: str | None = None
    """What came of tuning; None with a budget that has none."""
    check: Check | None = None
    """The same with the way that was taken. There may be one without any layer chosen: what the search had come to
    is not kept if it is no faster on the held-out data."""
    int8: Int8Check | None = None
    """What onnxruntime's own quantisation gives, if that was asked for and it can quantise the model."""
    pictures: list[ClusterPicture] = Field(default_factory=list)
    seconds: float
    ledger: dict[str, Measured] = Field(default_factory=dict)
    """Where they went: by kind of work, in the order in which it began. Empty in reports of versions without it."""
    versions: dict[str, str]
    options: dict[str, Any]
    command: str | None = None
    """The command line that repeats it, if it came from one."""
