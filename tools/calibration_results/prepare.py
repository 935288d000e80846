"""Writes a network and its data as files, as reuse-calibrate reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from models.datasets import RgbImage
from models.preprocessing import Preprocessing
from reuse_compiler.verification.inputs import model_inputs
from tools.calibration_results.networks import Network
from tools.calibration_results.pictures import Pictures

CHUNK = 16
"""Images preprocessed at a time, so that memory holds few of them as floats."""


@dataclass(frozen=True)
class DataFiles:
    """An array of inputs, and one of class indices if the network has classes."""

    inputs: Path
    labels: Path | None
    words: str
    """What the data is."""

    def run_shape(self, batch: int) -> tuple[int, ...]:
        """Returns the shape of the input of one run of the model."""
        return (batch, *np.load(self.inputs, mmap_mode="r").shape[1:])


@dataclass(frozen=True)
class Prepared:
    """All files of a network."""

    model: Path
    input_name: str
    calibration: DataFiles
    held_out: DataFiles


def prepare(network: Network, folder: Path, limit: int | None = None) -> Prepared:
    """Writes the model and its data, or the first `limit` pictures of each part of that, into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model, path = network.model(), folder / "model.onnx"
    onnx.save(model, path)
    (single,) = model_inputs(model)
    return Prepared(
        path,
        single.name,
        _write(network.calibration(limit), network.preprocessing, folder / "calibration.npy"),
        _write(network.held_out(limit), network.preprocessing, folder / "held_out.npy"),
    )


def _write(pictures: Pictures, preprocessing: Preprocessing, path: Path) -> DataFiles:
    _write_inputs(pictures.images, preprocessing, path)
    labels = None
    if pictures.labels is not None:
        labels = path.with_name(f"{path.stem}_labels.npy")
        np.save(labels, pictures.labels, allow_pickle=False)
    return DataFiles(path, labels, pictures.words)


def _write_inputs(images: Sequence[RgbImage], preprocessing: Preprocessing, path: Path) -> None:
    with path.open("wb") as stream:
        for start in range(0, len(images), CHUNK):
            chunk = preprocessing(images[start : start + CHUNK])
            if start == 0:
                shape = (len(images), *chunk.shape[1:])
                header = {"descr": np.lib.format.dtype_to_descr(chunk.dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
            stream.write(chunk.tobytes())
