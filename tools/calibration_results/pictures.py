"""The pictures that networks are calibrated and judged on: photos, rendered pages and lines, frames of a film."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
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
from tools.images import MARGIN, ROOT, STYLES, TOP, Style, letterboxed, render_pages, resized

FILM_VARIABLE = "REUSE_VTEST"
FILM = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
"""Where Debian's package opencv-doc puts it."""
BEGINNING = 8
"""Characters that a line of text always shows."""
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


def letterboxed_photos(first: int, distance: int, size: int) -> ReadPictures:
    """The middles of photos of imagenet_sample, in 16:9, between black bars in a square of `size` pixels.

    They are apart, as photos that follow one another are of similar things: first animals, then what people make.
    """

    def read(limit: int | None = None) -> Pictures:
        found = datasets.images("imagenet_sample")[0][first::distance][:limit]
        images = [letterboxed(_wide(photo), (size, size)) for photo in found]
        words = f"photos of imagenet_sample, every {distance}th from {first} on, in 16:9 between bars in {size}x{size}"
        return Pictures(images, None, f"{len(images)} {words}")

    return read


def _wide(photo: RgbImage) -> RgbImage:
    """The middle of a photo that is at least as high as wide, in 16:9."""
    height, width = photo.shape[:2]
    inner = width * 9 // 16
    top = (height - inner) // 2
    return photo[top : top + inner]


def text_lines(documents: Sequence[str], count: int, size: tuple[int, int]) -> ReadPictures:
    """The beginnings of lines of documents of this project, rendered in changing letters and colours.

    `size` is height and width; the documents have equal shares of the `count` lines.
    """

    def read(limit: int | None = None) -> Pictures:
        share = count // len(documents)
        shares = [
            islice(_lines_of(document, STYLES[index % len(STYLES)], size), share)
            for index, document in enumerate(documents)
        ]
        images = list(islice((line for lines in zip(*shares, strict=True) for line in lines), limit))
        words = f"{len(images)} rendered lines of text ({size[1]}x{size[0]}) of {', '.join(documents)}"
        return Pictures(images, None, words)

    return read


def _lines_of(document: str, style: Style, size: tuple[int, int]) -> Iterator[RgbImage]:
    """Yields the beginnings of all lines of a document that begin with words or numbers."""
    height, width = size
    end = MARGIN + style.line_height * width // height
    rows = (ROOT / document).read_text(encoding="utf-8").splitlines()
    for number, page in enumerate(render_pages([document], [style])):
        for index, row in enumerate(rows[number * style.lines :][: style.lines]):
            top = TOP + index * style.line_height
            if any(character.isalnum() for character in row[:BEGINNING]):
                yield resized(page[top : top + style.line_height, MARGIN:end], size)


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
