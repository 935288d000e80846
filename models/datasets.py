"""Reading of the sample data: JPEG images packed in NPZ archives. The data itself is never part of the repository.

An archive holds `jpeg` (the bytes of all n files), `offsets` (n + 1 positions in it) and `labels` (n class indices).
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RgbImage = NDArray[np.uint8]
"""One photo, `[H, W, 3]`, channels red, green, blue, 0..255."""

NAMES = ("cifar10_train", "cifar10_test", "imagenet_sample")


class DataMissingError(FileNotFoundError):
    """The sample data is not on this machine; the message says where it was looked for."""


def data_dir() -> Path | None:
    """Folder of the archives: `$REUSE_DATA`, else `../shared/data` beside the repository root, else None."""
    configured = os.environ.get("REUSE_DATA")
    if configured:
        return Path(configured).expanduser()
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return beside if beside.is_dir() else None


def images(name: str, count: int | None = None, start: int = 0) -> tuple[list[RgbImage], NDArray[np.int64]]:
    """`count` images (None: all that follow) of the archive `name` from `start` on, with their class indices `[count]`.

    `imagenet_sample` has 256x256 photos (see `centre_crop`) with ImageNet-1k indices, one photo per class in
    ascending order; the CIFAR-10 archives have 32x32 images in mixed order.
    """
    if name not in NAMES:
        raise ValueError(f"no data set '{name}'; known: {', '.join(NAMES)}")
    folder = data_dir()
    if folder is None:
        raise DataMissingError(
            "no sample data: set REUSE_DATA to the folder that has " + ", ".join(f"{n}.npz" for n in NAMES)
        )
    return read_archive(folder / f"{name}.npz", count, start)


def read_archive(path: Path, count: int | None = None, start: int = 0) -> tuple[list[RgbImage], NDArray[np.int64]]:
    """The same for one archive at `path`."""
    if not path.is_file():
        raise DataMissingError(f"no file {path}: set REUSE_DATA to the folder of the sample data")
    with np.load(path, allow_pickle=False) as archive:
        offsets, labels = archive["offsets"], archive["labels"]
        total = len(labels)
        stop = total if count is None else start + count
        if not 0 <= start <= stop <= total:
            raise ValueError(f"images {start} to {stop} asked of {path.name}, which has {total}")
        jpeg = archive["jpeg"]
    decoded = [_decode(jpeg[offsets[i] : offsets[i + 1]].tobytes()) for i in range(start, stop)]
    return decoded, labels[start:stop].astype(np.int64)


def centre_crop(photos: Sequence[RgbImage], size: int = 224) -> list[RgbImage]:
    """The centre `[size, size, 3]` of every photo; a photo smaller than that is refused."""
    cropped = []
    for photo in photos:
        height, width = photo.shape[:2]
        if height < size or width < size:
            raise ValueError(f"cannot crop {size}x{size} out of {height}x{width}")
        top, left = (height - size) // 2, (width - size) // 2
        cropped.append(photo[top : top + size, left : left + size])
    return cropped


def _decode(jpeg: bytes) -> RgbImage:
    with Image.open(io.BytesIO(jpeg)) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.uint8)
