"""Measures networks in int8, and lossless reuse on top of that, beside their floats.

    python -m tools.quantised_results --json docs/results/quantised.json      # about twelve minutes

Each network is quantised by onnxruntime, and compiled twice: for samples of one kind of images, which choose its
layers, and without samples, in regions. Then both run on another image of that kind, beside the quantised model alone
and the original, 15 times in turn.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import BaseModel

import reuse_compiler
from models import datasets, packaged
from reuse_compiler.cli.bench import JsonFile, check_json, write_json
from reuse_compiler.cli.command import run_command, stdout_console
from reuse_compiler.cli.flags import Logging
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.flags import Flag
from reuse_compiler.reports.table import Row, number, numbers, print_table, words
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.quantised import quantise
from reuse_compiler.verification.sessions import COMPILED, ORIGINAL, open_session, runner
from reuse_compiler.verification.timing import Turns
from tools.images import described, letterboxed, render_page, resized
from tools.measured import Measured

ROUNDS = 15
SAMPLES = 3
"""Images of each kind that layers are chosen on; one more is measured."""
PHOTO_SIZE = 320, 320
NETWORKS = ("craft", "hed")
INT8, GUARDED = "int8", "guarded"


class Line(BaseModel):
    """A network on one kind of images."""

    network: str
    images: str
    layers: int
    """Of bytes that use reuse."""
    float_ms: float
    int8_ms: float
    reuse_ms: float
    guarded_ms: float
    """Compiled without samples: runs ask whether their input repeats."""
    differing: int
    """Values of the outputs of both that are not those of the quantised model."""


class Results(Measured):
    """All that was measured."""

    lines: list[Line]


@dataclass(frozen=True)
class Subject:
    """A network in both forms."""

    name: str
    original: onnx.ModelProto
    quantised: onnx.ModelProto
    images: dict[str, list[NDArray[np.float32]]]


def images_of(name: str) -> dict[str, list[NDArray[np.float32]]]:
    """Returns inputs of each kind."""
    prepare = packaged.REGISTRY[name].preprocessing
    photos, _ = datasets.images("imagenet_sample", SAMPLES + 1)
    kinds = {
        "page": [render_page(index) for index in range(SAMPLES + 1)],
        "letterboxed photo": [letterboxed(photo, PHOTO_SIZE) for photo in photos],
        "photo": [resized(photo, PHOTO_SIZE) for photo in photos],
    }
    return {kind: [prepare([image]) for image in images] for kind, images in kinds.items()}


def subject(name: str) -> Subject:
    """Loads a network and quantises it on the samples of all kinds."""
    original, images = onnx.load(packaged.load(name)), images_of(name)
    feeds = [{original.graph.input[0].name: x} for kind in images.values() for x in kind[:SAMPLES]]
    return Subject(name, original, quantise(original, feeds, "QDQ", "QUInt8"), images)


def measure(network: Subject, kind: str, progress: Any) -> Line:
    """Compiles a quantised network for one kind of images, and runs all forms on another of that kind."""
    *samples, x = network.images[kind]
    name = network.original.graph.input[0].name
    with TemporaryDirectory() as folder:
        data, arrays = Path(folder) / "samples.npz", dict[str, Any]({name: np.concatenate(samples)})
        np.savez(data, **arrays)
        compile_model = functools.partial(
            reuse_compiler.compile, network.quantised, shapes={name: x.shape}, progress=progress
        )
        result = compile_model(verify_data=data)
        models = {ORIGINAL: network.original, INT8: network.quantised, COMPILED: result.model}
        models[GUARDED] = compile_model().model
        sessions = {label: open_session(model, 1, label, folder=Path(folder)) for label, model in models.items()}
    turns, difference = Turns({label: runner(each, None, label) for label, each in sessions.items()}), Difference()
    outputs = turns.round({name: x})
    for form in (COMPILED, GUARDED):
        for expected, actual in zip(outputs[INT8], outputs[form], strict=True):
            difference.add(expected, actual)
    turns.forget_times()
    for index in range(ROUNDS):
        progress(f"{network.name}, {kind}", index, ROUNDS)
        turns.round({name: x})
    return Line(
        network=network.name,
        images=described(kind, x),
        layers=sum(layer.decision == "reuse" for layer in result.report.layers),
        float_ms=turns.median_ms(ORIGINAL),
        int8_ms=turns.median_ms(INT8),
        reuse_ms=turns.median_ms(COMPILED),
        guarded_ms=turns.median_ms(GUARDED),
        differing=difference.differing + difference.broken,
    )


def lines_of(names: Sequence[str], progress: Any) -> Iterator[Line]:
    """Yields a line for each network and kind of images."""
    for name in names:
        network = subject(name)
        for kind in network.images:
            yield measure(network, kind, progress)


def print_lines(lines: Sequence[Line], console: Any) -> None:
    """Prints a row for each line."""
    columns = [*words("network", "images")]
    columns += numbers("layers", "float ms", "int8 ms", "chosen ms", "guarded ms")
    columns += numbers("chosen over int8", "guarded over int8", "differing")
    cells = [
        [line.network, line.images, str(line.layers)]
        + [number(n) for n in (line.float_ms, line.int8_ms, line.reuse_ms, line.guarded_ms)]
        + [f"{line.int8_ms / ms:.2f}" for ms in (line.reuse_ms, line.guarded_ms)]
        + [str(line.differing)]
        for line in lines
    ]
    print_table(columns, [Row(each) for each in cells], console)


@with_flags
def main(
    names: Annotated[list[str] | None, Flag("Only this network; repeat it for further ones.", name="--network")] = None,
    json_file: JsonFile = None,
    log_level: Logging = "warning",
) -> None:
    """Measure quantised models with lossless reuse beside those without, and beside floats, on one thread."""
    check_json(json_file)
    with working(log_level) as progress:
        lines = list(lines_of(names or NETWORKS, progress))
    write_json(Results.here(lines=lines), json_file)
    print_lines(lines, stdout_console())


if __name__ == "__main__":
    run_command(main, "python -m tools.quantised_results")
