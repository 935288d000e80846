"""Draws what a network computes of a film's frame that goes on from the last one.

python -m tools.stream_picture docs/results/streams.svg      # needs vtest.avi and OpenCV
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from reuse_compiler.cli.command import run_command
from reuse_compiler.passes.layer import QuantisedLayer
from reuse_compiler.pipeline import find_layers
from reuse_compiler.reference.hold import hold
from reuse_compiler.reports.figures import REUSE, svg
from reuse_compiler.reuse.config import HoldSettings
from reuse_compiler.reuse.geometry import ConvSpec
from reuse_compiler.verification.quantised import quantise
from reuse_compiler.verification.runnable import exposed
from reuse_compiler.verification.sessions import open_session, run_session
from tools.calibration_results.pictures import FRAME_SIZE
from tools.streams import TOLERANCE, film, packaged_network

NETWORK, LAYERS = "hed", ("conv1_2", "conv3_3", "conv4_3")
FRAMES = 12
"""The last one is drawn: what is held needs some to settle."""

HOLD = HoldSettings(tolerances=(0.0,)).model_dump(exclude={"tolerances"})
"""How inputs are held by default."""

Mask = npt.NDArray[np.bool_]


def seen(changed: Mask, spec: ConvSpec) -> Mask:
    """Returns the outputs [Oh, Ow] of a convolution without strides whose windows have a changed pixel [H, W]."""
    top, left, bottom, right = spec.pads
    padded = np.pad(changed, ((top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, spec.kernel)
    return np.asarray(windows.any((-2, -1)))


def masks() -> dict[str, Mask]:
    """Returns which pixels of the input changed, and which outputs of some layers are computed for that, by title."""
    network = packaged_network(NETWORK)
    before, images = film(4, FRAMES, FRAME_SIZE)
    quantised = quantise(network.original, list(network.feeds(before)), "QDQ", "QUInt8")
    found = find_layers(quantised).convolutions
    layers = {name: layer for name, layer in found.items() if name in LAYERS and isinstance(layer, QuantisedLayer)}
    tensors = [layer.input for layer in layers.values()]
    with exposed(quantised, tensors):
        session = open_session(quantised, 1, NETWORK)
    held: Any = None
    runs: list[Mapping[str, Any]] = []
    for index, feed in enumerate(network.feeds(images)):
        ((name, x),) = feed.items()
        tolerance = TOLERANCE / 255 * float(np.ptp(x))
        held, changed = hold(x, held, [tolerance], **HOLD)
        if index >= FRAMES - 2:
            runs.append(dict(zip(tensors, run_session(session, tensors, {name: held.image}, NETWORK), strict=True)))
    result = {"pixels that changed": changed[0]}
    for layer_name, layer in layers.items():
        last, now = (run[layer.input] for run in runs)
        result[f"{layer_name}, computed"] = seen((now != last).any(1)[0], layer.spec)
    return result


def paint(figure: Any, drawn: Mapping[str, Mask]) -> None:
    """Draws the masks side by side."""
    from matplotlib.colors import ListedColormap

    for axes, (title, mask) in zip(figure.subplots(1, len(drawn)), drawn.items(), strict=True):
        axes.imshow(mask, cmap=ListedColormap(["#f3f4f6", REUSE]), interpolation="nearest", vmin=0, vmax=1)
        axes.set_title(f"{title}: {mask.mean():.0%}")
        axes.set_xticks([])
        axes.set_yticks([])


def main(output: Annotated[Path, typer.Argument(help="The .svg to write.")]) -> None:
    """Draw what is computed of a frame that goes on from the last one."""
    drawn = masks()
    output.write_bytes(svg(900, 200, lambda figure: paint(figure, drawn), surface="white"))


if __name__ == "__main__":
    run_command(main, "python -m tools.stream_picture")
