"""Damaged configurations, arrays, settings of photos, labels and states: refused with a sentence, or taken."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from reuse_compiler.calibration.labels import read_labels
from reuse_compiler.calibration.state import State
from reuse_compiler.cli.compile import app
from reuse_compiler.configuration import configuration_of, parameters_path, write_configuration
from reuse_compiler.errors import ReuseError
from reuse_compiler.pipeline import find_layers
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.plan import LayerPlan, LayerWeights
from reuse_compiler.verification.images import FILE_NAME
from tools.fuzz.convolutions import Rng, draw_parameters, pick
from tools.fuzz.corruption import corrupt_file
from tools.fuzz.models import draw_model, run_command

VALID = 0.05
"""Share of the files that stay as they are: these must be taken."""


def check(rng: Rng, folder: Path) -> None:
    """Draws a kind of file, damages one and has it read."""
    pick(rng, [_configuration, _configuration, _data, _data, _photos, _labels, _state])(
        rng, folder, rng.random() < VALID
    )


def _compile(rng: Rng, folder: Path, valid: bool, *arguments: object) -> None:
    model = folder / "model.onnx"
    onnx.save(draw_model(rng, "chain"), model)
    code = run_command(app, [str(argument) for argument in (model, *arguments)])
    assert not valid or code == 0, "valid files are refused"


def _configuration(rng: Rng, folder: Path, valid: bool) -> None:
    """A configuration with trees and fitted weights for the layers of a model."""
    plan = {}
    for name, layer in find_layers(draw_model(rng, "chain")).convolutions.items():
        settings = LayerSettings(family=pick(rng, ["learned", "sign", "exact"]), layout="patch", L=3, H=2)
        parameters = draw_parameters(rng, settings.family, settings.blocking(layer.spec), settings.num_hashes)
        bias = np.zeros(layer.spec.out_channels, np.float32) if layer.bias is None else layer.bias.array
        weights = LayerWeights(layer.weight.array, bias)
        plan[name] = LayerPlan(layer.spec, settings, parameters, weights)
    config = configuration_of(folder / "model.onnx")
    write_configuration(plan, 0, config, overwrite=False)
    if not valid:
        corrupt_file(rng, pick(rng, [config, parameters_path(config)]))
    _compile(rng, folder, valid, "--config", config, *pick(rng, [[], ["--dry-run"]]))


def _data(rng: Rng, folder: Path, valid: bool) -> None:
    """Arrays to verify with: one, by name, or a folder of both."""
    images = rng.standard_normal((4, 3, 10, 9)).astype(np.float32)
    data = folder / "data"
    data.mkdir()
    files = pick(rng, [["a.npy"], ["a.npz"], ["a.npz", "b.npz"]])
    for name in files:
        if name.endswith(".npy"):
            np.save(data / name, images)
        else:
            np.savez(data / name, x=images)
    if not valid:
        corrupt_file(rng, data / files[0])
    _compile(rng, folder, valid, "--force", "--verify-data", data if len(files) > 1 else data / files[0])


def _photos(rng: Rng, folder: Path, valid: bool) -> None:
    """A folder of photos and their settings."""
    data = folder / "photos"
    data.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(rng.integers(0, 256, (12, 11, 3), np.uint8)).save(data / name)
    settings = {
        "size": [10, 9],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2],
        "scale": 0.004,
        "order": "BGR",
        "layout": "NCHW",
    }
    (data / FILE_NAME).write_text(json.dumps(settings), encoding="utf-8")
    if not valid:
        corrupt_file(rng, data / pick(rng, [FILE_NAME, FILE_NAME, "a.png", "b.jpg"]))
    _compile(rng, folder, valid, "--force", "--verify-data", data)


def _labels(rng: Rng, folder: Path, valid: bool) -> None:
    """Labels of all kinds, read as calibration reads them."""
    array, stream = np.arange(4), io.BytesIO()
    np.savez(stream, labels=array)
    kind = pick(rng, [".npy", ".npz", ".txt", ".csv"])
    path = folder / f"labels{kind}"
    if kind == ".npy":
        np.save(path, array)
    else:
        texts = {".txt": b"0\n1\n2\n3\n", ".csv": b"file,label\na.png,0\nb.png,1\nc.png,2\nd.png,3\n"}
        path.write_bytes(texts.get(kind, stream.getvalue()))
    if not valid:
        corrupt_file(rng, path)
    try:
        labels = read_labels(path, 4, pick(rng, [None, ["a.png", "b.png", "c.png", "d.png"]]))
    except ReuseError:
        assert not valid, "valid labels are refused"
    else:
        assert labels.shape == (4,) and labels.dtype == np.int64


def _state(rng: Rng, folder: Path, valid: bool) -> None:
    """The state of a calibration: what cannot be read is computed again."""
    path = folder / "state.json"
    numbers = {"a": 1.5, "b": 2.5}
    for key, value in numbers.items():
        State(path, resume=True).remember("measured", key, float, lambda value=value: value)  # type: ignore[misc]
    if not valid:
        corrupt_file(rng, path)
    state = State(path, resume=True)
    found = {key: state.remember("measured", key, float, lambda key=key: numbers[key]) for key in numbers}  # type: ignore[misc]
    assert all(isinstance(value, float) for value in found.values())
    assert not valid or found == numbers
