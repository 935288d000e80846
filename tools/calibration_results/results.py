"""What is written about a network as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from reuse_compiler.benchmark.report import Machine
from reuse_compiler.calibration.report import CONFIG, CalibrationReport, Flips
from reuse_compiler.reuse.config import LayerSettings


class Result(BaseModel):
    """Base of all of it."""

    model_config = CONFIG


def abridged(report: CalibrationReport) -> CalibrationReport:
    """Returns the report without what no page shows: candidates, trials and pictures are most of its size."""
    layers = [layer.model_copy(update={"measurements": []}) for layer in report.layers]
    return report.model_copy(update={"layers": layers, "trials": [], "pictures": []})


class CalibrationRun(Result):
    """One run of reuse-calibrate, and what it reported, abridged."""

    variant: str
    command: str
    compile_command: str
    seconds: float
    peak_bytes: int
    """Largest resident memory of the process."""
    report: CalibrationReport


class ReuseLayer(Result):
    """A layer with reuse, in the compiled model."""

    name: str
    settings: LayerSettings
    r_c: float | None
    """Over the held-out data."""


class VariantResult(Result):
    """One form of the network on the held-out data."""

    name: str
    metric: float
    change: float
    """Of the metric, from the original's: negative is worse. Infinite where the original's is."""
    flips: Flips | None = None
    """Of metrics that count right rows."""
    output_error: float
    """Relative L2 error of the outputs against the original's, the largest of them."""
    median_ms: float
    speedup: float
    """Median of the original over this one's; all took turns in one process, in every round of the network."""
    layers: list[ReuseLayer] = Field(default_factory=list)


class Reached(Result):
    """One thing that was asked for, and whether the calibrated model (variant `learned`) has it."""

    goal: str
    reached: bool


class NetworkResult(Result):
    """A network: what was measured, on what, how."""

    version: Literal[1] = 1
    network: str
    title: str
    command: str
    """Of this tool."""
    calibrated_on: str
    held_out: str
    held_out_digest: str
    """SHA-256 of the held-out inputs and labels."""
    limit: int | None = None
    """Not None: only so many pictures of each kind were used, to try the tool out."""
    metric: str
    threads: int
    rounds: int
    variants: list[VariantResult]
    int8_form: str
    int8_forms_ms: dict[str, float]
    """Times of all forms that onnxruntime's quantizer writes; the fastest is the variant."""
    int8_runs: int
    """Runs of the calibration data that the ranges of the activations come from."""
    calibrations: list[CalibrationRun]
    goals: list[Reached]
    peak_bytes: int
    """Largest resident memory of the process that quantised and compared, with all variants open."""
    machine: Machine


def result_path(folder: Path, network: str) -> Path:
    """Returns where a network's results are."""
    return folder / f"calibration_{network}.json"
