"""Made-up calibrations for tests of the report: shaped like those of a text detector, measured nowhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import (
    CalibrationReport,
    Check,
    ClusterPicture,
    LayerCalibration,
    Measurement,
    Trial,
)
from reuse_compiler.reuse.config import LayerSettings

# name, input and output channels, size, kernel, dense ms: VGG-16 with a decoder, as in CRAFT.
LAYERS = [
    ("slice1.0", 3, 64, 480, 3, 38.0), ("slice1.3", 64, 64, 480, 3, 171.0), ("slice1.7", 64, 128, 240, 3, 83.0),
    ("slice1.10", 128, 128, 240, 3, 160.0), ("slice2.14", 128, 256, 120, 3, 79.0),
    ("slice2.17", 256, 256, 120, 3, 156.0), ("slice3.20", 256, 256, 120, 3, 157.0),
    ("slice3.24", 256, 512, 60, 3, 81.0), ("slice3.27", 512, 512, 60, 3, 163.0), ("slice4.30", 512, 512, 60, 3, 164.0),
    ("slice4.34", 512, 512, 30, 3, 42.0), ("slice4.37", 512, 512, 30, 3, 41.0), ("slice5.1", 512, 1024, 30, 3, 84.0),
    ("slice5.2", 1024, 1024, 30, 1, 19.0), ("upconv1.conv.0", 1536, 512, 30, 1, 15.0),
    ("upconv1.conv.3", 512, 256, 30, 3, 21.0), ("upconv2.conv.3", 256, 128, 60, 3, 20.0),
    ("upconv3.conv.3", 128, 64, 120, 3, 21.0), ("upconv4.conv.3", 64, 32, 240, 3, 22.0),
    ("conv_cls.0", 32, 32, 240, 3, 13.0),
]  # fmt: skip
DENSE_MS = 1610.0
CHOICES = {"slice1.3": (16, 10), "slice1.7": (8, 8), "slice1.10": (8, 10), "slice2.14": (8, 8), "slice2.17": (8, 10),
           "slice3.20": (8, 10), "slice3.24": (8, 8), "slice3.27": (8, 8), "slice4.30": (16, 10)}  # fmt: skip
AWKWARD = 'conv<3>&"x"'


def measurement(length: int, hashes: int, dense_ms: float, **settings: Any) -> Measurement:
    """Returns what one would expect of L and H, roughly, and a little different for each layer and setting."""
    rng = np.random.default_rng([length, hashes, int(dense_ms)])
    r_c = min(1.0, 0.00009 * 2**hashes * (1 + 2 / length) * (1 + dense_ms / 300) * rng.uniform(0.85, 1.15))
    error = 0.55 * (length / 32) ** 0.5 * math.exp(-(0.1 + 0.0006 * dense_ms) * (hashes - 4)) * rng.uniform(0.92, 1.08)
    reuse_ms = dense_ms * (0.10 + r_c + 1.6 / length)
    values = {"family": "learned", "layout": "channel"} | settings
    return Measurement(
        settings=LayerSettings(L=length, H=hashes, **values), r_c=r_c, output_error=error, error_bound=3.4 * error,
        dense_ms=dense_ms, reuse_ms=reuse_ms, operations=r_c + 1.6 / length,
    )  # fmt: skip


def layer(index: int, choices: dict[str, tuple[int, int]] = CHOICES) -> LayerCalibration:
    """Returns the layer of LAYERS with that number, chosen or not."""
    name, channels, kernels, size, kernel, dense_ms = LAYERS[index]
    values: dict[str, Any] = {
        "name": name, "N": size * size, "K": channels * kernel * kernel, "M": kernels, "dense_ms": dense_ms,
    }  # fmt: skip
    if channels == 3:
        reason = "3 input channels: neuron vectors of 3 elements cost more adds than they save"
        return LayerCalibration(**values, decision="dense", reason=reason)
    measured = [measurement(length, h, dense_ms) for length in (4, 8, 16, 32) for h in (4, 6, 8, 10, 12)]
    measured += [measurement(8, h, 0.9 * dense_ms, table="int8") for h in (8, 10)]
    if name not in choices:
        reason = "no setting that keeps the accuracy is faster than the dense layer"
        return LayerCalibration(**values, decision="dense", reason=reason, measurements=measured, sensitivity=0.4)
    chosen = measurement(*choices[name], dense_ms)
    return LayerCalibration(
        **values, decision="reuse", reason=f"saves {dense_ms - chosen.reuse_ms:.0f} ms", measurements=measured,
        sensitivity=0.02, chosen=chosen, error_as_is=1.3 * chosen.output_error + 0.01 * index,
        error_reconstructed=0.55 * chosen.output_error + 0.002 * index,
    )  # fmt: skip


def trials(layers: list[LayerCalibration]) -> list[Trial]:
    """Returns a search that begins with too much and backs off."""
    chosen = {item.name: item.chosen for item in layers if item.chosen}
    saved = sum(item.dense_ms - item.reuse_ms for item in chosen.values())
    settings = {name: item.settings for name, item in chosen.items()}
    made = []
    steps = [(1.0 + 0.1 * n, 0.954 - 0.012 * n**1.5) for n in (5, 4, 3, 2, 1)]
    steps += [(0.7, 0.971), (0.82, 0.964), (0.93, 0.947), (1.0, 0.953)]
    for number, (share, value) in enumerate(steps, 1):
        last = number == len(steps)
        made.append(
            Trial(
                step="everything that gains" if number == 1 else f"without {LAYERS[number][0]}" if number < 6 else
                f"wins back {LAYERS[number][0]}",
                layers=settings if last else dict(list(settings.items())[: number - 1]), value=value,
                drop=1.0 - value, output_error=2.1 * (1.0 - value), dense_ms=DENSE_MS,
                reuse_ms=DENSE_MS - share * saved, accepted=value >= 0.95,
            )
        )  # fmt: skip
    return [*made, made[0].model_copy(update={"step": "coarser trees", "value": 0.41, "drop": 0.59})]


def check(value: float, reuse_ms: float) -> Check:
    """Returns a check of 72 held-out pages."""
    return Check(
        samples=72, original=1.0, value=value, drop=1.0 - value, output_error=1.9 * (1.0 - value), dense_ms=DENSE_MS,
        reuse_ms=reuse_ms, target=0.95, within_budget=value >= 0.95,
    )  # fmt: skip


def picture(name: str, size: int, clusters: int) -> ClusterPicture:
    """Returns blobs, and an image of them."""
    y, x = np.mgrid[0:size, 0:size] / size
    waves = np.sin(7 * x + 3 * y * y) + np.cos(9 * y - 4 * x * x) + 0.15 * np.sin(60 * x) * np.sin(47 * y)
    ids = ((waves - waves.min()) / np.ptp(waves) * (clusters - 1)).astype(int)
    pixels = np.stack([120 + 50 * waves, 90 + 60 * x + 30 * waves, 150 - 40 * waves], axis=2).clip(0, 255).astype(int)
    return ClusterPicture(layer=name, block=0, ids=ids.tolist(), image=pixels.tolist())


def sample(**changes: Any) -> CalibrationReport:
    """Returns a calibration in which everything occurs."""
    layers = [layer(index) for index in range(len(LAYERS))]
    chosen = [item.chosen for item in layers if item.chosen]
    reuse_ms = DENSE_MS - sum(item.dense_ms - item.reuse_ms for item in chosen)
    options = CalibrationOptions(metric="iou", at_least=0.95, shapes={"x": (1, 3, 480, 480)})
    values: dict[str, Any] = {
        "model": "text_detector.onnx", "data": "240 made-up pages, 480×480", "metric": "iou", "higher_is_better": True,
        "target": 0.95, "layers": layers, "trials": trials(layers),
        "reconstruction": {
            "none": check(0.874, reuse_ms), "statistics": check(0.931, reuse_ms), "weights": check(0.956, reuse_ms),
        },
        "check": check(0.956, reuse_ms),
        "pictures": [picture("slice1.3", 120, 60), picture("slice2.17", 60, 25), picture("slice3.27", 30, 9)],
        "seconds": 912.0, "versions": {"reuse-compiler": "0.1.0", "onnxruntime": "1.24.4", "numpy": "2.4.6"},
        "options": options.model_dump(mode="json"),
        "command": "reuse-calibrate text_detector.onnx --data pages --metric iou --at-least 0.95 "
                   "-o text_detector.reuse.json --report report",
    }  # fmt: skip
    return CalibrationReport.model_validate(values | changes)


def dense() -> CalibrationReport:
    """Returns one in which no layer was rewritten and nothing tried."""
    layers = [layer(index, {}) for index in range(3)]
    return sample(layers=layers, trials=[], reconstruction={}, check=None, pictures=[], command=None)


def deep(count: int = 100) -> CalibrationReport:
    """Returns one of many layers, with long and awkward names."""
    layers = []
    for index in range(count):
        one = layer(index % len(LAYERS))
        name = f"/backbone/stages.{index}/blocks.0/conv_depthwise_separable/{AWKWARD}_{index}/Conv"
        layers.append(one.model_copy(update={"name": name, "measurements": one.measurements[::5]}))
    return sample(model=f"a very long name of a model, {AWKWARD}.onnx", layers=layers)


def single() -> CalibrationReport:
    """Returns one of a single layer that breaks the budget, in a metric of which less is better."""
    only = layer(1)
    broken = check(0.02, 150.0).model_copy(update={"original": 0.0, "drop": 0.02, "within_budget": False})
    assert only.chosen is not None
    trial = Trial(
        step="the only layer", layers={only.name: only.chosen.settings}, value=0.01, drop=0.01, output_error=0.1,
        dense_ms=180.0, reuse_ms=150.0, accepted=True,
    )  # fmt: skip
    return sample(
        model="one.onnx", metric="mse", higher_is_better=False, target=0.011, layers=[only], trials=[trial],
        reconstruction={"none": broken}, check=broken, pictures=[picture("slice1.3", 20, 1)],
    )  # fmt: skip


SAMPLES = {"sample": sample, "dense": dense, "deep": deep, "single": single}
