"""Measures static clusters of bytes in quantised networks, beside onnxruntime's int8 and the float network.

    python -m tools.static_byte_results --json docs/results/static_bytes.json     # some minutes; reads $REUSE_DATA
    python -m tools.static_byte_results --network hed --json docs/results/static_byte_frames.json
                                                                # a calibration; needs vtest.avi and OpenCV

In the VGG for CIFAR-10, reuse stands in five of the six convolutions. Trees, centroids and weights are fitted to
training images without their labels. Classes are those of test images; times are those of batches of them. In HED,
calibration chooses the layers: on frames of a film, it keeps a PSNR of the outputs beside those of the quantised
network. Later frames are measured. All is on one thread, the forms in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import onnx
from pydantic import BaseModel, Field
from rich.console import Console

from models import datasets
from reuse_compiler.calibration.deploy import Deployer
from reuse_compiler.calibration.effort import EFFORTS
from reuse_compiler.calibration.layers import examine
from reuse_compiler.calibration.options import BudgetName, CalibrationOptions
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
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.inputs import Feed
from reuse_compiler.verification.quantised import quantise
from reuse_compiler.verification.sessions import open_session, runner
from reuse_compiler.verification.timing import Turns, on_one_processor
from tools.calibrated import calibrated
from tools.calibration_results.networks import NETWORKS
from tools.classifiers import BATCH, Form, judge
from tools.measured import Measured, decibels, finite_psnr

CUTS = ((8, 8), (4, 8))
"""L and H that all five layers have."""
ORIGINAL, INT8, STATIC = "original", "int8", "static"
VGG, FRAMES = "cifar_vgg", "hed_frames"
"""The networks, as tools.calibration_results has them: the VGG, of which one layer is left out, and HED on a film."""


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


class FrameForm(BaseModel):
    """The network on frames in one form."""

    name: str
    psnr: float | None
    """Of its outputs beside those of the quantised network; None where they are equal."""
    psnr_of_original: float | None
    """The same beside the float network."""
    median_ms: float
    """Of a run of one frame."""


class FrameResults(Measured):
    """All that was measured on frames."""

    at_least: float
    """The PSNR that the calibration kept on its own samples."""
    budget: BudgetName
    fitted_to: int
    held_out: int
    reused: list[str]
    """The layers that calibration chose."""
    forms: list[FrameForm]


def judge_frames(
    forms: Mapping[str, onnx.ModelProto], feeds: list[Feed], progress: ProgressCallback
) -> list[FrameForm]:
    """Returns what each form's outputs are worth, and its time in turn with the others; the first frame warms up."""
    turns = Turns({form: runner(open_session(model, 1, form), None, form) for form, model in forms.items()})
    from_int8, from_original = ({form: Difference() for form in forms} for _ in range(2))
    with on_one_processor(1):
        turns.round(feeds[0])
        turns.forget_times()
        for index, feed in enumerate(feeds):
            progress("running the forms", index, len(feeds))
            outputs = turns.round(feed)
            for form, found in outputs.items():
                for original, quantised, y in zip(outputs[ORIGINAL], outputs[INT8], found, strict=True):
                    from_original[form].add(original, y)
                    from_int8[form].add(quantised, y)
    return [
        FrameForm(
            name=form,
            psnr=finite_psnr(from_int8[form]),
            psnr_of_original=finite_psnr(from_original[form]),
            median_ms=turns.median_ms(form),
        )
        for form in forms
    ]


def measure_frames(at_least: float, budget: BudgetName, progress: ProgressCallback) -> FrameResults:
    """Calibrates the quantised network on frames of a film, and measures it on later ones."""
    network = NETWORKS[FRAMES]
    model = network.model()
    name = model.graph.input[0].name
    before, after = (
        [{name: network.preprocessing([image])} for image in read().images]
        for read in (network.calibration, network.held_out)
    )
    quantised = quantise(model, before, "QDQ", "QUInt8")
    options = CalibrationOptions(scope="static", metric="psnr", at_least=at_least, budget=budget)
    (found,) = calibrated(quantised, before, options, progress)
    forms = judge_frames({ORIGINAL: model, INT8: quantised, STATIC: found.model}, after, progress)
    return FrameResults.here(
        at_least=at_least,
        budget=budget,
        fitted_to=len(before),
        held_out=len(after),
        reused=[layer.name for layer in found.report.layers if layer.decision == "reuse"],
        forms=forms,
    )


def print_frames(results: FrameResults, console: Console) -> None:
    """Prints a row for each form."""
    (int8,) = (form.median_ms for form in results.forms if form.name == INT8)
    rows = [
        Row(
            [
                f.name,
                *map(decibels, (f.psnr, f.psnr_of_original)),
                f"{f.median_ms:.2f}",
                f"{int8 / f.median_ms:.2f}",
            ]
        )
        for f in results.forms
    ]
    columns = [*words("form"), *numbers("dB of int8", "dB of the original", "ms", "over int8")]
    print_table(columns, rows, console)
    console.print(f"reuse in {len(results.reused)} layers: {', '.join(results.reused) or 'none'}")


@with_flags
def main(
    network: Annotated[Literal["vgg", "hed"], Flag("The VGG for CIFAR-10, or HED on frames of a film.")] = "vgg",
    samples: Annotated[int, Field(ge=BATCH), Flag("Training images to fit to.")] = 1408,
    held_out: Annotated[int, Field(ge=BATCH), Flag("Test images to judge by.")] = 5000,
    at_least: Annotated[float, Flag("With --network hed: the PSNR that the calibration keeps.")] = 35.0,
    budget: Annotated[BudgetName, Flag("With --network hed: how much the calibration tries.")] = "default",
    json_file: JsonFile = None,
    log_level: Logging = "warning",
) -> None:
    """Measure a quantised network with static clusters of bytes."""
    check_json(json_file)
    if network == "hed":
        with working(log_level) as progress:
            frames = measure_frames(at_least, budget, progress)
        write_json(frames, json_file)
        print_frames(frames, stdout_console())
        return
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
