"""A folder of photos as sample data; `preprocessing.json` in it says what the model expects of a photo."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reuse_compiler.errors import DataError
from reuse_compiler.json_files import JsonError, read_json
from reuse_compiler.reuse.config import describe_validation_error
from reuse_compiler.verification.data import Shapes, Source, batch_size, describe_runs
from reuse_compiler.verification.inputs import Feed, InputSpec

FILE_NAME = "preprocessing.json"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
EXAMPLE = '{"size": [224, 224], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "scale": 0.00392157}'


class Preprocessing(BaseModel):
    """From a photo to a tensor: resized (bilinear), its channels put into `order`, `(pixel * scale - mean) / std`.

    Pixels are 0..255; mean and std are one number or one per channel in that order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    size: tuple[int, int] | None = None
    """Height and width; None: those of the model's input."""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = Field(default=1.0 / 255.0)
    order: Literal["RGB", "BGR", "GRAY"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    @property
    def channels(self) -> int:
        """Channels of the tensor."""
        return 1 if self.order == "GRAY" else 3

    @staticmethod
    def load(file: Path) -> Preprocessing:
        """Reads and checks the file; raises DataError naming the field."""
        try:
            settings = Preprocessing.model_validate(read_json(file))
        except JsonError as error:
            raise DataError(f"{file} {error}") from error
        except ValidationError as error:
            raise DataError(f"{file}: {describe_validation_error(error)}") from error
        settings._check(file)
        return settings

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the tensor, without batch axis, of an RGB or grey photo `[H, W, channels]` of the right size."""
        values = pixels[..., ::-1] if self.order == "BGR" else pixels
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        tensor = (values.astype(np.float32) * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(tensor.transpose(2, 0, 1) if self.layout == "NCHW" else tensor)

    def _check(self, file: Path) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise DataError(f"{file}: {name} must have 1 or {self.channels} numbers for order {self.order}")
        if 0.0 in self.std:
            raise DataError(f"{file}: std must not be 0")
        if self.size is not None and min(self.size) < 1:
            raise DataError(f"{file}: size must be [height, width], both at least 1")


class ImageSource(Source):
    """The photos of a folder in order of their names, decoded when their turn comes; or a single one of them."""

    def __init__(self, path: Path, specs: list[InputSpec], shapes: Shapes) -> None:
        folder, files = (path, sorted(filter(is_photo, path.iterdir()))) if path.is_dir() else (path.parent, [path])
        if len(specs) != 1:
            raise DataError(f"{folder} holds photos, but the model has {len(specs)} inputs: give an .npz file instead")
        self._spec = specs[0]
        self._pillow = _import_pillow()
        self._preprocessing = Preprocessing.load(folder / FILE_NAME)
        if not files:
            raise DataError(f"{folder} has a {FILE_NAME} but no photo ({', '.join(SUFFIXES)})")
        self._size = self._find_size(shapes, folder)
        self._files = files
        self._batch = batch_size(
            self._spec, shapes, len(files), f"{path}: {len(files)} {'photo is' if len(files) == 1 else 'photos are'}"
        )
        self.names = [file.name for file in files]
        first = self[0]  # shows a tensor that does not fit before the work starts
        self.description = (
            f"{describe_runs(len(self), first)} from {'the photos in ' if path.is_dir() else ''}{path.name}"
        )

    @property
    def num_samples(self) -> int:
        return len(self._files)

    def rows(self, index: int) -> range:
        return range(index * self._batch, (index + 1) * self._batch)

    def __len__(self) -> int:
        return len(self._files) // self._batch

    def __getitem__(self, index: int) -> Feed:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return {self._spec.name: self._read([self._files[row] for row in self.rows(index)])}

    def _read(self, files: list[Path]) -> NDArray[Any]:
        batch = np.stack([self._preprocessing.apply(self._pixels(file)) for file in files])
        if self._spec.dtype.kind in "iu":
            batch = np.rint(batch).astype(np.int64)
        return self._spec.accept(batch, str(files[0].parent))

    def _pixels(self, file: Path) -> NDArray[np.uint8]:
        height, width = self._size
        image = self._pillow
        try:
            with image.open(file) as photo:
                converted = photo.convert("L" if self._preprocessing.channels == 1 else "RGB")
                resized = converted.resize((width, height), image.Resampling.BILINEAR)
        except (OSError, ValueError, image.DecompressionBombError) as error:
            raise DataError(f"{file} cannot be read as a photo: {error}") from error
        return np.asarray(resized, np.uint8).reshape(height, width, self._preprocessing.channels)

    def _find_size(self, shapes: Shapes, folder: Path) -> tuple[int, int]:
        """Height and width: from the file, else from --shape, else from the model."""
        if self._preprocessing.size is not None:
            return self._preprocessing.size
        dims = shapes.get(self._spec.name, self._spec.dims)
        if dims is not None and len(dims) == 4:
            height, width = dims[2:4] if self._preprocessing.layout == "NCHW" else dims[1:3]
            if isinstance(height, int) and isinstance(width, int):
                return height, width
        raise DataError(
            f"the input {self._spec} has no fixed height and width: "
            f'write "size": [height, width] into {folder / FILE_NAME}'
        )


def is_photo(file: Path) -> bool:
    """Whether a file is a photo by its name."""
    return file.suffix.lower() in SUFFIXES


def has_images(folder: Path) -> bool:
    """Whether a folder holds photos."""
    return any(map(is_photo, folder.iterdir()))


def _import_pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            "photos as data need Pillow: `pip install 'reuse-compiler[images]'`, or give an .npz file"
        ) from error
    return Image
