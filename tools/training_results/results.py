"""What is written about training as JSON, one file per question."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict

from reuse_compiler.benchmark.report import Machine
from reuse_compiler.report import Report

Device = Literal["cpu", "cuda"]


class Result(Report):
    """Base of all of it."""

    model_config = ConfigDict(ser_json_inf_nan="strings")  # a PSNR may be infinite

    command: str
    machine: Machine


class LayerTime(Report):
    """One layer with one setting beside nn.Conv2d; milliseconds (`median_times`), medians of interleaved runs."""

    layer: str
    setting: str
    r_c: float
    dense_forward_ms: float
    dense_weight_ms: float
    """Of the backward pass for the weights alone."""
    dense_backward_ms: float
    forward_ms: float
    cluster_ms: float
    """Part of `forward_ms`."""
    weight_ms: float
    backward_ms: float
    counted: float
    """Operations over the dense layer's, by the training paper's formulas."""

    @property
    def speedup(self) -> float:
        """Of forward and backward pass together."""
        return (self.dense_forward_ms + self.dense_backward_ms) / (self.forward_ms + self.backward_ms)


class StepTime(Report):
    """A whole training step of a network, milliseconds (`median_times`), median of interleaved runs."""

    network: str
    setting: str
    ms: float


class LayerTimes(Result):
    """Time per step of ReuseConv2d beside nn.Conv2d."""

    threads: int
    rounds: int
    device: Device = "cpu"
    layers: list[LayerTime]
    steps: list[StepTime]
    """The first one of each network is without reuse."""


class Strategies(Result):
    """Trainings of one network with and without reuse: what `models.train --log` wrote, with one or several seeds."""

    network: str
    runs: dict[str, list[dict[str, Any]]]


class Tuning(Result):
    """A network as is, reconstructed and tuned, on held-out data."""

    network: str
    setting: str
    metric: str
    original: float
    as_is: float
    reconstructed: float
    tuned: float
    compiled: float | None = None
    """The tuned model's, exported, compiled and run in onnxruntime."""
    losses: tuple[float, float, float]
    """Of distillation on held-out batches: as is, reconstructed, tuned."""
    seconds: float


class Export(Result):
    """A trained network in PyTorch and, exported and compiled, in onnxruntime."""

    network: str
    switches: list[dict[str, Any]]
    layers: dict[str, dict[str, Any]]
    pytorch_accuracy: float
    compiled_accuracy: float
    dense_accuracy: float
    output_error: float
    """Relative, of the compiled model's scores against PyTorch's."""


AnyResult = TypeVar("AnyResult", bound=Result)


def result_path(folder: Path, question: str) -> Path:
    """Returns where a question's results are."""
    return folder / f"training_{question}.json"


def load(kind: type[AnyResult], path: Path) -> AnyResult | None:
    """Reads a result, or None if there is none."""
    return kind.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None
