"""Perforation (inference paper, Table IV): some pixels of a layer's result are computed, the rest taken from those.

A mask says which pixels are computed, the same ones for all images; every other pixel is the nearest of them. As in the
paper, only what that does to the accuracy is measured. It saves as many operations as reuse does in the same layers of
the calibrated network (docs/results/calibration_*.json), by the papers' count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models import builders, datasets, preprocessing
from reuse_compiler.pipeline import find_layers
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.verification.sessions import open_session
from tools.papers.results import FOLDER, Perforated, Perforation

NETWORKS = ("cifarnet", "cifar_vgg")
BATCH = 100
Pixels = NDArray[np.int64]
"""Rows and columns of pixels, [n, 2]."""


def grid(height: int, width: int, saved: float) -> Pixels:
    """Returns rows and columns at equal distances, of which about as many cross as are computed."""
    rows = math.ceil(height / math.sqrt(saved))
    columns = max(1, round(height * width / saved / rows))
    axes = (_spread(height, rows), _spread(width, columns))
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)


def _spread(size: int, count: int) -> Pixels:
    positions: Pixels = ((np.arange(count) + 0.5) * size / count).astype(np.int64)
    return positions


def scattered(height: int, width: int, saved: float) -> Pixels:
    """Returns pixels drawn at random."""
    drawn = np.random.default_rng(0).choice(height * width, max(1, round(height * width / saved)), replace=False)
    return np.stack(np.divmod(drawn, width), -1)


MASKS: Mapping[str, Callable[[int, int, float], Pixels]] = {"grid": grid, "scattered": scattered}


def nearest(pixels: Pixels, height: int, width: int) -> Pixels:
    """Returns for each pixel of an image, row after row, the number of that one of `pixels` that is nearest to it."""
    every = np.stack(np.divmod(np.arange(height * width), width), -1)
    found = pixels[((every[:, None] - pixels[None]) ** 2).sum(-1).argmin(1)]
    numbers: Pixels = found[:, 0] * width + found[:, 1]
    return numbers


def perforate(model: onnx.ModelProto, saved: Mapping[str, float], mask: str) -> onnx.ModelProto:
    """Returns the network in which layers take pixels of their results from others, `saved` times fewer computed."""
    shape = [own.dim_value or 1 for own in model.graph.input[0].type.tensor_type.shape.dim]
    layers = find_layers(model, {model.graph.input[0].name: tuple(shape)}).convolutions
    perforated = deepcopy(model)
    nodes = list(perforated.graph.node)
    del perforated.graph.node[:]
    for node in nodes:
        perforated.graph.node.append(node)
        if node.name not in saved:
            continue
        g, name = layers[node.name].spec, node.output[0]
        size = g.out_height, g.out_width
        constants = {
            f"{name}_flat": np.array([0, 0, -1]),
            f"{name}_nearest": nearest(MASKS[mask](*size, saved[node.name]), *size),
            f"{name}_image": np.array([0, 0, *size]),
        }
        flat, taken, image = constants
        perforated.graph.node[-1].output[0] = f"{name}_computed"
        perforated.graph.initializer.extend(numpy_helper.from_array(value, own) for own, value in constants.items())
        perforated.graph.node.extend(
            [
                helper.make_node("Reshape", [f"{name}_computed", flat], [f"{name}_pixels"]),
                helper.make_node("Gather", [f"{name}_pixels", taken], [f"{name}_filled"], axis=2),
                helper.make_node("Reshape", [f"{name}_filled", image], [name]),
            ]
        )
    return perforated


def saved_by_reuse(network: str) -> dict[str, float]:
    """Returns how many times fewer operations the calibrated network's layers take, by their names."""
    calibration = json.loads((FOLDER / f"calibration_{network}.json").read_text(encoding="utf-8"))["calibrations"][0]
    layers = calibration["report"]["layers"]
    return {own["name"]: 1.0 / own["chosen"]["operations"] for own in layers if own["decision"] == "reuse"}


def measure_perforation(images: int, progress: ProgressCallback) -> Perforation:
    """Returns the accuracies on test images of CIFAR-10."""
    photos, labels = datasets.images("cifar10_test", images)
    x, lines = preprocessing.CIFAR10(photos), []
    for network in NETWORKS:
        model, saved = builders.trained(network), saved_by_reuse(network)
        forms = {"original": model} | {mask: perforate(model, saved, mask) for mask in MASKS}
        top1: dict[str, float] = {}
        for form, own in forms.items():
            progress(f"{network}: {form}", len(top1), len(forms))
            top1[form] = _top1(own, x, labels)
        saved = {name: round(times, 3) for name, times in saved.items()}
        lines.append(Perforated(network=network, saved=saved, images=images, top1=top1))
    return Perforation(networks=lines)


def _top1(model: onnx.ModelProto, x: NDArray[np.float32], labels: NDArray[Any]) -> float:
    session, name = open_session(model, 1, "the network", plain=True), model.graph.input[0].name
    scores = [session.run(None, {name: x[start : start + BATCH]})[0] for start in range(0, len(x), BATCH)]
    return float((np.concatenate(scores).argmax(1) == labels).mean())
