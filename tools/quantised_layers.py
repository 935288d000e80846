"""Times QLinearReuseConv beside onnxruntime's QLinearConv on the same bytes: the goal layers, one thread, in turn.

python -m tools.quantised_layers                                # pixels that repeat as they do in images
python -m tools.quantised_layers --order random --ratio 0.1     # shuffled ones, of one remaining ratio
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Annotated

import numpy as np
import numpy.typing as npt
import onnx
import typer
from onnx import helper, numpy_helper

from reuse_compiler.benchmark.arrangement import pixel_labels
from reuse_compiler.benchmark.case import Order
from reuse_compiler.cli.command import Command, run_program
from reuse_compiler.errors import VerificationError
from reuse_compiler.passes.conv_node import attributes_of
from reuse_compiler.passes.lower_to_reuse import DOMAIN, INPUTS
from reuse_compiler.reuse.geometry import TO_PIXEL_MAJOR, ConvSpec
from reuse_compiler.runtime import reset_statistics, statistics
from reuse_compiler.verification.sessions import BoundRun, open_session
from reuse_compiler.verification.timing import interleave

LAYERS = ((256, 56), (128, 112), (64, 224), (512, 28))
"""Channels, in and out, and side of the image; all have 3x3 kernels."""
RATIOS = (0.02, 0.1, 0.3, 0.6)
SHARE, OVERHEAD = 0.8, 0.06
"""The goal is SHARE / (r_c + OVERHEAD) times the speed of onnxruntime."""
WARM_UPS = 2
CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""


def pixel_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of the same image as [N, H, W, channels]."""
    return tuple(shape[axis] for axis in TO_PIXEL_MAJOR)


@dataclass(frozen=True)
class Layer:
    """One layer with an input of so many distinct pixels, which are its neuron vectors."""

    channels: int
    side: int
    ratio: float
    order: Order

    @property
    def spec(self) -> ConvSpec:
        return ConvSpec(1, self.channels, self.side, self.side, self.channels, (3, 3), pads=(1, 1, 1, 1))

    @property
    def distinct(self) -> int:
        return max(1, round(self.ratio * self.spec.rows))

    def x(self) -> npt.NDArray[np.uint8]:
        """Returns pixels of random bytes, [1, side, side, channels]."""
        rng = np.random.default_rng(0)
        palette = rng.integers(0, 256, (self.distinct, self.channels), np.uint8)
        pixels = palette[pixel_labels(rng, self.spec, self.distinct, self.order)]
        return pixels.reshape(1, self.side, self.side, -1)

    def model(self, op: str) -> onnx.ModelProto:
        """Returns QLinearConv or QLinearReuseConv alone, with weights and scales that spread outputs over all bytes.

        The first is pixel-major, too, as onnxruntime makes it in networks.
        """
        g, rng = self.spec, np.random.default_rng(1)
        weights = rng.integers(-127, 128, g.weight_shape, np.int8)
        values = [
            *(np.float32(0.02), np.uint8(0), weights, np.full(g.out_channels, 0.01, np.float32)),
            *(np.zeros(g.out_channels, np.int8), np.float32(0.02 * np.sqrt(g.columns)), np.uint8(128)),
            rng.integers(-5000, 5000, g.out_channels, np.int32),
        ]
        constants = dict(zip(INPUTS["QLinearReuseConv"][1:], values, strict=True))
        attributes = attributes_of(g)
        if op == "QLinearReuseConv":
            attributes |= {"layout": "channel", "sub_vector_length": self.channels}
        else:
            attributes["channels_last"] = 1
        node = helper.make_node(op, ["x", *constants], ["y"], "conv", domain=DOMAIN if op in INPUTS else CONTRIB)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        node.attribute.sort(key=lambda attribute: attribute.name)
        graph = helper.make_graph(
            [node],
            "layer",
            [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, pixel_major(g.input_shape))],
            [helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, pixel_major(g.output_shape))],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in {"": 17, DOMAIN: 1, CONTRIB: 1}.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def measure(layer: Layer, repeats: int) -> str:
    """Returns a line of the table; raises VerificationError if a byte of the two results differs."""
    x, shape = layer.x(), pixel_major(layer.spec.output_shape)
    runs = {
        "dense": BoundRun(open_session(layer.model("QLinearConv"), 1, "QLinearConv", plain=True), x, shape),
        "reuse": BoundRun(open_session(layer.model("QLinearReuseConv"), 1, "QLinearReuseConv"), x, shape),
    }
    interleave(runs, WARM_UPS)
    if (runs["dense"].output != runs["reuse"].output).any():
        raise VerificationError(f"{layer}: results differ; on processors without VNNI onnxruntime's may be cut off")
    reset_statistics(runs["reuse"].session)
    times = {name: median(samples) for name, samples in interleave(runs, repeats).items()}
    (node,) = statistics(runs["reuse"].session)
    stages = (node.seconds.hash, node.seconds.gemm, node.seconds.gather)
    shown = " ".join(f"{1e3 * seconds / node.runs:7.2f}" for seconds in stages)
    goal = SHARE / (layer.ratio + OVERHEAD)
    return (
        f"{layer.channels:4} {layer.side:4} {layer.ratio:5} {times['dense']:8.2f} {times['reuse']:8.2f} "
        f"{times['dense'] / times['reuse']:8.2f} {goal:6.2f}  {shown}"
    )


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Command)
def layers(
    order: Annotated[
        Order, typer.Option(help="Whether equal pixels are neighbours, as in images, or shuffled.")
    ] = "local",
    ratio: Annotated[float | None, typer.Option(help="The remaining ratio, 0 to 1 (default: several).")] = None,
    repeats: Annotated[int, typer.Option(min=1)] = 15,
) -> None:
    """Measure the goal layers of quantised models."""
    print("   C side   r_c   int8 ms reuse ms  speed-up   goal     hash    gemm  gather")
    for channels, side in LAYERS:
        for each in RATIOS if ratio is None else (ratio,):
            print(measure(Layer(channels, side, each, order), repeats), flush=True)


def main() -> None:
    """Entry point of the program."""
    run_program(app, "python -m tools.quantised_layers")


if __name__ == "__main__":
    main()
