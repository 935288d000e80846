"""Measures what static centroids cost in accuracy, beside those of each batch, on images that nothing was fitted to.

    python -m tools.static_results --json docs/results/static.json     # a quarter of an hour; reads $REUSE_DATA

Reuse stands in five of the six convolutions of the VGG for CIFAR-10. Trees, centroids and weights are fitted to
training images without their labels. What is judged are classes of test images; times are not measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from models import builders, datasets, preprocessing
from reuse_compiler.calibration.deploy import Deployer
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.layers import examine
from reuse_compiler.calibration.metric_kinds import Top1
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.cli.bench import JsonFile, check_json, write_json
from reuse_compiler.cli.command import run_command, stdout_console
from reuse_compiler.cli.flags import Logging
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.fitting.reconstruct import Reconstruct
from reuse_compiler.flags import Flag
from reuse_compiler.pipeline import apply_plan
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.reports.table import Row, number, numbers, print_table, words
from reuse_compiler.reuse.config import Scope, TableType, make_settings
from reuse_compiler.reuse.plan import Plan
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.sessions import COMPILED, ORIGINAL, open_session, run_session
from tools.measured import Measured

NETWORK, FIRST_LAYER = "cifar_vgg", "conv1_1"
BATCH = 100
Weights = Literal["as is", "refitted"]
WAYS: dict[Weights, Reconstruct] = {"as is": "none", "refitted": "weights"}


@dataclass(frozen=True)
class Form:
    """Clusters of one kind in all layers, and what is measured of them: batch sizes, and tables of each."""

    scope: Scope
    length: int
    hashes: int
    """Trees of static centroids have a leaf for each of 2^hashes codes, others for a quarter of them."""
    measured: tuple[tuple[int, TableType], ...]


FORMS = (
    Form("static", 8, 8, ((BATCH, "float"), (BATCH, "int8"))),
    Form("batch", 8, 10, ((BATCH, "float"), (BATCH, "int8"), (1, "float"))),
)


class Line(BaseModel):
    """The network with reuse on the held-out images."""

    scope: Scope
    L: int
    H: int
    weights: Weights
    table: TableType
    batch: int
    """Images of a run."""
    top1: float
    standard_error: float
    """Of the difference from the original, were other images drawn."""
    output_error: float
    """Relative L2 error of the scores against the original's."""


class Results(Measured):
    """All that was measured."""

    network: str
    layers: int
    """With reuse."""
    fitted_to: int
    held_out: int
    original: float
    lines: list[Line]


@dataclass(frozen=True)
class Judge:
    """The held-out images, with what the original model says of them."""

    model: onnx.ModelProto
    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[Any]

    @staticmethod
    def of(model: onnx.ModelProto, images: NDArray[np.float32], labels: NDArray[np.int64]) -> Judge:
        scores = np.concatenate(list(_scores(model, images, BATCH, ORIGINAL)))
        return Judge(model, images, labels, scores)

    def top1(self) -> float:
        """Returns the original's."""
        return float((self.scores.argmax(axis=1) == self.labels).mean())

    def line(self, model: onnx.ModelProto, batch: int, **setting: Any) -> Line:
        """Returns how a model does on them, in runs of `batch`."""
        output = model.graph.output[0].name
        accumulator, difference = Top1(output).start(), Difference()
        for index, actual in enumerate(_scores(model, self.images, batch, COMPILED)):
            own = slice(index * batch, index * batch + len(actual))
            accumulator.add({output: self.scores[own]}, {output: actual}, self.labels[own])
            difference.add(self.scores[own], actual)
        flips = accumulator.flips()
        assert flips is not None  # of top1 there are always some
        return Line(
            **setting,
            batch=batch,
            top1=accumulator.value(),
            standard_error=flips.standard_error,
            output_error=difference.rel_error,
        )


def _scores(model: onnx.ModelProto, images: NDArray[np.float32], batch: int, label: str) -> Iterator[NDArray[Any]]:
    session = open_session(model, 1, label)
    name = model.graph.input[0].name
    for start in range(0, len(images), batch):
        yield run_session(session, None, {name: images[start : start + batch]}, label)[0]


def measure(
    model: onnx.ModelProto,
    exclude: str,
    samples: NDArray[np.float32],
    judge: Judge,
    forms: Sequence[Form],
    progress: ProgressCallback,
) -> tuple[int, list[Line]]:
    """Fits each form to the samples; returns how many layers have it, and what the judge says of them."""
    name, runs = model.graph.input[0].name, np.split(samples, len(samples) // BATCH)
    work = examine(model, CalibrationOptions(exclude=f"^{exclude}$", shapes={name: runs[0].shape}))
    deployer = Deployer(work, [{name: run} for run in runs], EFFORTS["default"], seed=0)
    lines = []
    for form in forms:
        # With float tables, whatever the plan is measured with.
        settings = make_settings(family="learned", layout="channel", L=form.length, H=form.hashes, scope=form.scope)
        for weights, how in WAYS.items():
            what = f"{form.scope}, weights {weights}"
            plan = deployer.deploy({layer.name: settings for layer in work.layers}, how, progress, what).plan
            for batch, table in form.measured:
                progress(f"{what}, {table} tables, batch {batch}", 0, 0)
                compiled = apply_plan(work.prepared, _with_tables(plan, table)).model
                setting = {"scope": form.scope, "L": form.length, "H": form.hashes, "weights": weights, "table": table}
                lines.append(judge.line(compiled, batch, **setting))
    return len(work.layers), lines


def _with_tables(plan: Plan, table: TableType) -> Plan:
    return {
        name: replace(layer, settings=layer.settings.model_copy(update={"table": table}))
        for name, layer in plan.items()
    }


def print_lines(original: float, lines: Sequence[Line], console: Any) -> None:
    """Prints a row for each line."""
    columns = [*words("clusters", "weights", "tables"), *numbers("batch", "top-1", "change", "± by chance", "error")]
    rows = [Row(["original", "", "", "", f"{original:.4f}", "", "", ""])]
    for line in lines:
        clusters = f"{line.scope}, L={line.L}, H={line.H}"
        change = f"{line.top1 - original:+.4f}"
        cells = [clusters, line.weights, line.table, str(line.batch), f"{line.top1:.4f}", change]
        rows.append(Row([*cells, f"{line.standard_error:.4f}", number(line.output_error)]))
    print_table(columns, rows, console)


@with_flags
def main(
    samples: Annotated[int, Field(ge=2 * BATCH), Flag("Training images to fit to; whole hundreds count.")] = 1400,
    held_out: Annotated[int, Field(ge=1), Flag("Test images to judge by.")] = 5000,
    scopes: Annotated[list[str] | None, Flag("Only these clusters; repeat it for both.", name="--scope")] = None,
    json_file: JsonFile = None,
    log_level: Logging = "warning",
) -> None:
    """Measure the accuracy of static clusters and of those of each batch."""
    check_json(json_file)
    photos, _ = datasets.images("cifar10_train", samples // BATCH * BATCH)
    others, labels = datasets.images("cifar10_test", held_out)
    model = builders.trained(NETWORK)
    with working(log_level) as progress:
        judge = Judge.of(model, preprocessing.CIFAR10(others), labels)
        forms = [form for form in FORMS if not scopes or form.scope in scopes]
        layers, lines = measure(model, FIRST_LAYER, preprocessing.CIFAR10(photos), judge, forms, progress)
    results = Results.here(
        network=NETWORK,
        layers=layers,
        fitted_to=len(photos),
        held_out=len(others),
        original=judge.top1(),
        lines=lines,
    )
    write_json(results, json_file)
    print_lines(results.original, lines, stdout_console())


if __name__ == "__main__":
    run_command(main, "python -m tools.static_results")
