"""Measures static clusters of bytes in quantised networks, beside onnxruntime's int8 and the float network.

    python -m tools.static_byte_results --json docs/results/static_bytes.json     # some minutes; reads $REUSE_DATA

In the VGG for CIFAR-10, reuse stands in five of the six convolutions. Trees, centroids and weights are fitted to
training images without their labels. Classes are those of test images; times are those of batches of them, on one
thread, the forms in turn. Networks for which calibration chooses the layers are in tools.calibration_results
(--on-int8).
"""

from __future__ import annotations

from typing import Annotated

import onnx
from pydantic import Field

from models import datasets
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
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.reports.table import Row, numbers, print_table, words
from reuse_compiler.reuse.config import make_settings
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.quantised import quantise
from tools.calibration_results.networks import NETWORKS
from tools.classifiers import BATCH, Form, judge
from tools.measured import Measured

CUTS = ((8, 8), (4, 8))
"""L and H that all five layers have."""
ORIGINAL, INT8 = "original", "int8"
VGG = "cifar_vgg"
"""The network, as tools.calibration_results has it: one of its layers is left out."""


class Results(Measured):
    """All that was measured."""

    fitted_to: int
    held_out: int
    forms: list[Form]


def forms_of(float_model: onnx.ModelProto, feeds: list[Feed], progress: ProgressCallback) -> dict[str, onnx.ModelProto]:
    """Returns the network in all forms, fitted to these inputs."""
    quantised = quantise(float_model, feeds, "QDQ", "QUInt8")
    forms: dict[str, onnx.ModelProto] = {ORIGINAL: float_model, INT8: quantised}
    shapes = {name: array.shape for name, array in feeds[0].items()}
    work = examine(quantised, CalibrationOptions(exclude=NETWORKS[VGG].exclude, shapes=shapes))
    deployer = Deployer(work, feeds, EFFORTS["default"], seed=0)
    for length, hashes in CUTS:
        form = f"static, L={length}, H={hashes}"
        own = make_settings(family="learned", layout="channel", L=length, H=hashes, scope="static", table="int8")
        plan = deployer.deploy({layer.name: own for layer in work.layers}, "weights", progress, form).plan
        forms[form] = apply_plan(work.prepared, plan).model
    return forms


@with_flags
def main(
    samples: Annotated[int, Field(ge=BATCH), Flag("Training images to fit to.")] = 1408,
    held_out: Annotated[int, Field(ge=BATCH), Flag("Test images to judge by.")] = 5000,
    json_file: JsonFile = None,
    log_level: Logging = "warning",
) -> None:
    """Measure a quantised network with static clusters of bytes."""
    check_json(json_file)
    photos, _ = datasets.images("cifar10_train", samples // BATCH * BATCH)
    others, labels = datasets.images("cifar10_test", held_out)
    vgg = NETWORKS[VGG]
    model = vgg.model()
    images = vgg.preprocessing(photos)
    feeds: list[Feed] = [
        {model.graph.input[0].name: images[start : start + BATCH]} for start in range(0, len(images), BATCH)
    ]
    with working(log_level) as progress:
        forms = judge(forms_of(model, feeds, progress), vgg.preprocessing(others), labels, progress)
    results = Results.here(fitted_to=len(photos), held_out=len(others) // BATCH * BATCH, forms=forms)
    write_json(results, json_file)
    (int8,) = (form.median_ms for form in forms if form.name == "int8")
    rows = [Row([f.name, f"{f.top1:.4f}", f"{f.median_ms:.2f}", f"{int8 / f.median_ms:.2f}"]) for f in forms]
    print_table([*words("form"), *numbers("top-1", "ms", "over int8")], rows, stdout_console())


if __name__ == "__main__":
    run_command(main, "python -m tools.static_byte_results")
