"""The pictures that networks are calibrated and judged on: photos, rendered pages, frames of a film."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models import datasets
from models.conversion import MissingExtraError
from models.datasets import DataMissingError, RgbImage
from tools.sample_inputs import STYLES, render_pages

FILM_VARIABLE = "REUSE_VTEST"
FILM = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
"""Where Debian's package opencv-doc puts it."""
FRAME_SIZE = 384, 288
"""Width and height of the frames: half of the film's."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of one size in order, their class indices `[n]` if they have any, and what they are in words."""

    images: Sequence[RgbImage]
    labels: NDArray[np.int64] | None
    words: str


class ReadPictures(Protocol):
    """Reads the pictures, or the first `limit` of them; raises FileNotFoundError or ImportError where it cannot."""

    def __call__(self, limit: int | None = None) -> Pictures: ...


def photos(
    words: str, archive: str, count: int, start: int = 0, crop: int | None = None, labelled: bool = True
) -> ReadPictures:
    """Photos of the sample data (models/README.md), if wished their centre of `crop` x `crop` pixels."""

    def read(limit: int | None = None) -> Pictures:
        found, labels = datasets.images(archive, _limited(count, limit), start)
        images = found if crop is None else datasets.centre_crop(found, crop)
        return Pictures(images, labels if labelled else None, f"{len(images)} {words}")

    return read


def pages(documents: Sequence[str]) -> ReadPictures:
    """All pages of documents of this project, rendered in changing letters and colours."""

    def read(limit: int | None = None) -> Pictures:
        images = list(islice(render_pages(documents, STYLES), limit))
        return Pictures(images, None, f"{len(images)} rendered pages (480x640) of {', '.join(documents)}")

    return read


def frames(first: int, count: int, distance: int, size: tuple[int, int] = FRAME_SIZE) -> ReadPictures:
    """Frames of the film vtest.avi, a fixed camera above people who walk; `size` is width and height."""
    return partial(_read_frames, first, count, distance, size)


def _read_frames(first: int, count: int, distance: int, size: tuple[int, int], limit: int | None = None) -> Pictures:
    cv2 = _import_opencv()
    path = Path(os.environ.get(FILM_VARIABLE) or FILM)
    if not path.is_file():
        raise DataMissingError(
            f"no film at {path}: install Debian's package opencv-doc, or unpack it (apt-get download opencv-doc, "
            f"dpkg -x) and set {FILM_VARIABLE} to its vtest.avi"
        )
    film = cv2.VideoCapture(str(path))
    numbers = [first + index * distance for index in range(_limited(count, limit))]
    images = [_frame(cv2, film, number, path, size) for number in numbers]
    words = f"{len(images)} frames of vtest.avi ({size[0]}x{size[1]}), number {numbers[0]} to {numbers[-1]}"
    return Pictures(images, None, words)


def _frame(cv2: Any, film: Any, number: int, path: Path, size: tuple[int, int]) -> RgbImage:
    film.set(cv2.CAP_PROP_POS_FRAMES, number)
    found, picture = film.read()
    if not found:
        raise DataMissingError(f"{path} has no frame {number} that OpenCV can decode")
    smaller = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    image: RgbImage = np.ascontiguousarray(smaller[..., ::-1])  # OpenCV's order is blue, green, red
    return image


def _import_opencv() -> Any:
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise MissingExtraError("decoding the film needs OpenCV: pip install opencv-python-headless") from error


def _limited(count: int, limit: int | None) -> int:
    return count if limit is None else min(count, limit)
