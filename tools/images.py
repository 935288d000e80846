"""Images that networks are tried on: rendered pages of this project's documentation, photos in other sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.datasets import RgbImage

ROOT = Path(__file__).resolve().parent.parent
OPERATORS = "docs/operators.md"
PAGE_HEIGHT, PAGE_WIDTH = 640, 480
MARGIN, TOP, HEADING_TOP, HEADING_SIZE = 32, 80, 24, 32


@dataclass(frozen=True)
class Style:
    """How a page is set: the size of its letters in pixels, the distance of its lines, the colours."""

    letters: int = 15
    line_height: int = 22
    columns: int = 56
    """Characters that fit into a line."""
    ink: str = "black"
    paper: str = "white"

    @property
    def lines(self) -> int:
        """Lines on a page."""
        return (PAGE_HEIGHT - TOP - MARGIN) // self.line_height


PLAIN = Style()
STYLES = (
    PLAIN,
    Style(letters=12, line_height=17, columns=70, ink="#222222"),
    Style(letters=19, line_height=29, columns=42, paper="#f4f0e4"),
    Style(letters=15, line_height=24, columns=56, ink="#e8e8e8", paper="#1c2530"),
)
"""What `pages` takes turns with."""


def render_page(number: int = 0, document: str = OPERATORS, style: Style = PLAIN) -> RgbImage:
    """Returns page `number` [640, 480, 3] of a document of this project; raises ValueError if it has not so many."""
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()[number * style.lines :]
    if not lines:
        raise ValueError(f"{document} has no page {number}")
    page = Image.new("RGB", (PAGE_WIDTH, PAGE_HEIGHT), style.paper)
    draw, top = ImageDraw.Draw(page), TOP
    draw.text((MARGIN, HEADING_TOP), "reuse-compiler", font=ImageFont.load_default(HEADING_SIZE), fill=style.ink)
    for line in lines[: style.lines]:
        draw.text((MARGIN, top), line[: style.columns], font=ImageFont.load_default(style.letters), fill=style.ink)
        top += style.line_height
    return np.asarray(page)


def render_pages(documents: Sequence[str], styles: Sequence[Style] = (PLAIN,)) -> Iterator[RgbImage]:
    """Renders all pages of some documents, one style for each document in turn."""
    for index, document in enumerate(documents):
        style = styles[index % len(styles)]
        lines = len((ROOT / document).read_text(encoding="utf-8").splitlines())
        for number in range(-(-lines // style.lines)):
            yield render_page(number, document, style)


def resized(image: RgbImage, size: tuple[int, int]) -> RgbImage:
    """Returns an image of that height and width."""
    return np.asarray(Image.fromarray(image).resize(size[::-1]))


def letterboxed(photo: RgbImage, size: tuple[int, int]) -> RgbImage:
    """Returns a 16:9 photo between black bars."""
    height, width = size
    inner = width * 9 // 16
    top = (height - inner) // 2
    image = np.zeros((height, width, 3), np.uint8)
    image[top : top + inner] = resized(photo, (inner, width))
    return image


def described(kind: str, x: NDArray[np.float32]) -> str:
    """Returns the kind and size of images, whose channels are first or last."""
    height, width = x.shape[2:] if x.shape[1] == 3 else x.shape[1:3]
    return f"{kind}, {height}x{width}"
