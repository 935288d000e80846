"""Measures models compiled without data, on images that repeat and on images that do not.

    python -m tools.region_results --json docs/results/regions.json     # all networks; about ten minutes

Each network is compiled for the size of the images without any flag, and run beside the original, 15 times in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import BaseModel

import reuse_compiler
from models import datasets, packaged, preprocessing
from models.graph_writer import GraphWriter
from models.preprocessing import Preprocessing
from reuse_compiler.cli.bench import JsonFile, check_json, write_json
from reuse_compiler.cli.command import run_command, stdout_console
from reuse_compiler.cli.flags import Logging
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.flags import Flag
from reuse_compiler.reports.table import Row, number, numbers, print_table, words
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.sessions import COMPILED, ORIGINAL, open_session, runner
from reuse_compiler.verification.timing import Turns
from tools.images import described, letterboxed, render_page, resized
from tools.measured import Measured

ROUNDS = 15
NOISE = 1e-3
"""Standard deviation that makes no two windows of a page equal, in units of the network's input."""
PAGE = (640, 480)
SQUARE, SMALL = (320, 320), (224, 224)


@dataclass(frozen=True)
class Network:
    """A network, and what its images go through."""

    name: str
    build: Callable[[], onnx.ModelProto]
    prepare: Preprocessing
    size: tuple[int, int]
    """Height and width of photos."""


class Line(BaseModel):
    """A network on one kind of images."""

    network: str
    images: str
    layers: int
    """That use reuse where enough repeats."""
    ran: int
    """Of these, that did in this run."""
    dense_ms: float
    reuse_ms: float
    max_abs_error: float


class Results(Measured):
    """All that was measured."""

    lines: list[Line]


def resnet18() -> onnx.ModelProto:
    """ResNet-18 with random weights, whose normalizations are nodes of their own."""
    rng, net = np.random.default_rng(0), GraphWriter("resnet18", [1, 3, 224, 224])

    def conv(x: str, inputs: int, outputs: int, kernel: int, stride: int) -> str:
        scale = np.sqrt(2 / (inputs * kernel**2))
        weights = scale * rng.standard_normal((outputs, inputs, kernel, kernel))
        y = net.conv(x, weights, stride=stride, pad=kernel // 2)
        ranges = ((0.8, 1.2), (-0.1, 0.1), (-0.1, 0.1), (0.5, 1.5))
        statistics = [net.constant(rng.uniform(*ends, outputs).astype(np.float32)) for ends in ranges]
        return net.node("BatchNormalization", [y, *statistics])

    x, channels = net.max_pool(net.relu(conv("x", 3, 64, 7, 2)), 3, 2, pads=[1] * 4), 64
    for width in (64, 128, 256, 512):
        for stride in (1 if width == 64 else 2, 1):
            inner = conv(net.relu(conv(x, channels, width, 3, stride)), width, width, 3, 1)
            skip = x if (stride, channels) == (1, width) else conv(x, channels, width, 1, stride)
            x, channels = net.relu(net.node("Add", [inner, skip])), width
    pooled = net.node("Flatten", [net.node("GlobalAveragePool", [x])])
    net.gemm(pooled, rng.standard_normal((1000, 512)) / 20, np.zeros(1000))
    return net.build("y", [1, 1000])


def _packaged(name: str, size: tuple[int, int]) -> Network:
    def build() -> onnx.ModelProto:
        return onnx.load(packaged.load(name))

    return Network(name, build, packaged.REGISTRY[name].preprocessing, size)


NETWORKS = (
    _packaged("craft", SQUARE),
    _packaged("hed", SQUARE),
    _packaged("squeezenet", SMALL),
    _packaged("open_nsfw", SMALL),
    Network("resnet18", resnet18, preprocessing.CRAFT, SMALL),
)


def images_of(network: Network) -> dict[str, NDArray[np.float32]]:
    """Returns an input for each kind of images."""
    photo = datasets.images("imagenet_sample", 1)[0][0]
    page = render_page() if network.size == SQUARE else resized(render_page(), network.size)
    kinds = {
        "photo": resized(photo, network.size),
        "letterboxed photo": letterboxed(photo, network.size),
        "page": page,
    }
    inputs = {kind: network.prepare([image]) for kind, image in kinds.items()}
    noise = NOISE * np.random.default_rng(0).standard_normal(inputs["page"].shape)
    return inputs | {"page with noise": (inputs["page"] + noise).astype(np.float32)}


def measure(network: Network, progress: Any) -> list[Line]:
    """Compiles a network for each size of its images, and runs it on all of them."""
    model, lines, compiled = network.build(), [], {}
    name = model.graph.input[0].name
    for kind, x in images_of(network).items():
        if x.shape not in compiled:
            fixed = all(dim.HasField("dim_value") for dim in model.graph.input[0].type.tensor_type.shape.dim)
            shapes = {} if fixed else {name: x.shape}
            compiled[x.shape] = reuse_compiler.compile(model, shapes=shapes, progress=progress)
        result = compiled[x.shape]
        with TemporaryDirectory() as folder:
            sessions = {
                label: open_session(each, 1, label, folder=Path(folder))
                for label, each in ((ORIGINAL, model), (COMPILED, result.model))
            }
        turns = Turns({label: runner(opened, None, label) for label, opened in sessions.items()})
        difference = Difference()
        for expected, actual in zip(*turns.round({name: x}).values(), strict=True):
            difference.add(expected, actual)
        turns.forget_times()
        for index in range(ROUNDS):
            progress(f"{network.name}, {kind}", index, ROUNDS)
            turns.round({name: x})
        ran = [node for node in reuse_compiler.statistics(sessions[COMPILED]) if node.op == "ReuseConv" and node.rows]
        lines.append(
            Line(
                network=network.name,
                images=described(kind, x),
                layers=sum(layer.decision == "reuse" for layer in result.report.layers),
                ran=len(ran),
                dense_ms=turns.median_ms(ORIGINAL),
                reuse_ms=turns.median_ms(COMPILED),
                max_abs_error=difference.max_abs_error,
            )
        )
    return lines


def print_lines(lines: Sequence[Line], console: Any) -> None:
    """Prints a row for each line."""
    columns = [*words("network", "images"), *numbers("layers", "ran", "original ms", "compiled ms", "ratio", "error")]
    cells = [
        [line.network, line.images, str(line.layers), str(line.ran)]
        + [number(n) for n in (line.dense_ms, line.reuse_ms, line.reuse_ms / line.dense_ms, line.max_abs_error)]
        for line in lines
    ]
    print_table(columns, [Row(each) for each in cells], console)


@with_flags
def main(
    names: Annotated[list[str] | None, Flag("Only this network; repeat it for further ones.", name="--network")] = None,
    json_file: JsonFile = None,
    log_level: Logging = "warning",
) -> None:
    """Measure models in two forms beside their originals, on one thread."""
    check_json(json_file)
    lines: list[Line] = []
    with working(log_level) as progress:
        for network in NETWORKS:
            if not names or network.name in names:
                lines += measure(network, progress)
    write_json(Results.here(lines=lines), json_file)
    print_lines(lines, stdout_console())


if __name__ == "__main__":
    run_command(main, "python -m tools.region_results")
