"""Measures reuse on top of a pruned and quantised network, as Table V of the inference paper does with AlexNet.

    python -m tools.pruned_results --json docs/results/pruned.json     # some minutes; reads $REUSE_DATA

CifarNet's convolutions are pruned by magnitude to the densities of "Deep Compression" (the first one 84%, the other
38%), without training, and their weights rounded to 8 bits. Reuse is put on top with trees in the second convolution,
floats between layers as in the paper, and lossless on the bytes of the network that onnxruntime's quantiser makes of
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import BaseModel, Field

import reuse_compiler
from models import builders, datasets, preprocessing
from reuse_compiler.benchmark.models import compare_models
from reuse_compiler.calibration.deploy import Deployer
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.layers import examine
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.cli.bench import JsonFile, check_json, write_json
from reuse_compiler.cli.command import run_command, stdout_console
from reuse_compiler.cli.flags import Logging
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.flags import Flag
from reuse_compiler.pipeline import apply_plan
from reuse_compiler.reports.table import Row, numbers, print_table, words
from reuse_compiler.reuse.config import Scope, make_settings
from reuse_compiler.verification.quantised import quantise
from tools.classifiers import BATCH, Form, judge
from tools.measured import Measured

NETWORK, LAYER = "cifarnet", "conv2"
DENSITIES = {"conv1": 0.84, "conv2": 0.38}
ROUNDS = 15
SETTINGS: dict[str, tuple[Scope, int, int]] = {"batch": ("batch", 4, 11), "static": ("static", 4, 8)}
"""Scope, L and H by form. That of a batch is what calibration found for the second layer (docs/results)."""
FORMS = {"pruned": "pruned, 8-bit weights", "int8": "int8", "lossless": "int8, lossless reuse"}


class LayerLine(BaseModel):
    """A convolution of the pruned network without reuse, and with it in each form."""

    layer: str
    dense_ms: float
    reuse_ms: dict[str, float]
    """By form; those without reuse are computed as before."""
    in_bytes: str
    """What becomes of it where reuse is lossless, and why."""


class Results(Measured):
    """All that was measured."""

    densities: dict[str, float]
    fitted_to: int
    held_out: int
    forms: list[Form]
    layers: list[LayerLine]


def compress(model: onnx.ModelProto, densities: Mapping[str, float]) -> onnx.ModelProto:
    """Returns the model with that share of each convolution's weights, the largest, rounded to 8 bits by channel."""
    result = deepcopy(model)
    weights = {node.input[1]: densities[node.name] for node in result.graph.node if node.name in densities}
    for tensor in result.graph.initializer:
        if tensor.name in weights:
            array = numpy_helper.to_array(tensor)
            pruned = np.where(np.abs(array) >= np.quantile(np.abs(array), 1.0 - weights[tensor.name]), array, 0)
            scale = np.abs(pruned).max(axis=(1, 2, 3), keepdims=True) / 127
            rounded = np.rint(pruned / np.maximum(scale, np.finfo(np.float32).tiny)) * scale
            tensor.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), tensor.name))
    return result


def forms_of(
    model: onnx.ModelProto, images: NDArray[np.float32], folder: Path, progress: Any
) -> tuple[dict[str, onnx.ModelProto], list[LayerLine]]:
    """Returns the network in all forms, fitted to images without their labels, and its layers."""
    pruned, name = compress(model, DENSITIES), model.graph.input[0].name
    feeds = [{name: images[start : start + BATCH]} for start in range(0, len(images), BATCH)]
    shapes = {name: feeds[0][name].shape}
    forms = {"pruned": pruned, "int8": quantise(pruned, feeds, "QDQ", "QUInt8")}
    data = folder / "batch.npy"
    np.save(data, feeds[0][name])
    lossless = reuse_compiler.compile(forms["int8"], shapes=shapes, verify_data=data, progress=progress)
    forms["lossless"] = lossless.model
    work = examine(pruned, CalibrationOptions(layers=f"^{LAYER}$", shapes=shapes))
    deployer = Deployer(work, feeds, EFFORTS["default"], seed=0)
    for form, (scope, length, hashes) in SETTINGS.items():
        settings = make_settings(family="learned", layout="channel", L=length, H=hashes, scope=scope, table="int8")
        plan = deployer.deploy({LAYER: settings}, "weights", progress, form).plan
        forms[form] = apply_plan(work.prepared, plan).model
    times = {form: _layer_times(form, forms, data, shapes, folder) for form in SETTINGS}
    lines = [
        LayerLine(
            layer=layer.name,
            dense_ms=median(dense.get(layer.name, 0.0) for dense, _ in times.values()),
            reuse_ms={form: own.get(layer.name, 0.0) for form, (_, own) in times.items()},
            in_bytes=f"{layer.decision}: {layer.reason}",
        )
        for layer in lossless.report.layers
    ]
    return {
        "original": model,
        **{FORMS.get(form, f"pruned, reuse, {form}"): each for form, each in forms.items()},
    }, lines


def _layer_times(
    form: str, forms: Mapping[str, onnx.ModelProto], data: Path, shapes: Any, folder: Path
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the times of the layers of the pruned network and of a form of it, run in turn."""
    paths = [folder / f"{each}.onnx" for each in ("pruned", form)]
    for each, path in zip(("pruned", form), paths, strict=True):
        onnx.save(forms[each], path)
    report = compare_models(*paths, data=data, shapes=shapes, repeats=ROUNDS)
    sums: list[dict[str, float]] = [{}, {}]
    for own, times in zip(sums, (report.first, report.second), strict=True):
        for node in times.nodes:
            own[node.layer] = own.get(node.layer, 0.0) + node.ms
    return sums[0], sums[1]


def print_results(results: Results, console: Any) -> None:
    """Prints the forms, and the layers."""
    (pruned,) = (form.median_ms for form in results.forms if form.name == FORMS["pruned"])
    rows = [
        Row([form.name, f"{form.top1:.4f}", f"{form.median_ms:.2f}", f"{pruned / form.median_ms:.2f}"])
        for form in results.forms
    ]
    print_table([*words("form"), *numbers("top-1", "ms", "over pruned")], rows, console)
    rows = [
        Row([line.layer, f"{line.dense_ms:.2f}", *(f"{ms:.2f}" for ms in line.reuse_ms.values()), line.in_bytes])
        for line in results.layers
    ]
    print_table(
        [*words("layer"), *numbers("dense ms", *(f"{form} ms" for form in SETTINGS)), *words("bytes")], rows, console
    )


@with_flags
def main(
    samples: Annotated[int, Field(ge=BATCH), Flag("Training images to fit to.")] = 1408,
    held_out: Annotated[int, Field(ge=BATCH), Flag("Test images to judge by.")] = 5000,
    json_file: JsonFile = None,
    log_level: Logging = "warning",
) -> None:
    """Measure a pruned and quantised network with reuse and without, on one thread."""
    check_json(json_file)
    photos, _ = datasets.images("cifar10_train", samples // BATCH * BATCH)
    others, labels = datasets.images("cifar10_test", held_out)
    with working(log_level) as progress, TemporaryDirectory() as folder:
        images = preprocessing.CIFAR10(photos)
        forms, layers = forms_of(builders.trained(NETWORK), images, Path(folder), progress)
        judged = judge(forms, preprocessing.CIFAR10(others), labels, progress)
    results = Results.here(
        densities=DENSITIES,
        fitted_to=len(photos),
        held_out=len(others) // BATCH * BATCH,
        forms=judged,
        layers=layers,
    )
    write_json(results, json_file)
    print_results(results, stdout_console())


if __name__ == "__main__":
    run_command(main, "python -m tools.pruned_results")
