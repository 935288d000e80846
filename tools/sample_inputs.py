"""Writes real inputs for a packaged network, as `--verify-data` reads them.

python -m tools.sample_inputs craft pages -n 3 -o pages.npz     # rendered pages of this project's documentation
python -m tools.sample_inputs hed photos -n 4 -o photos.npz     # photos of the sample data (see models/README.md)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image, ImageDraw, ImageFont

from models import datasets, packaged
from models.datasets import RgbImage
from reuse_compiler.cli.command import run_command

ROOT = Path(__file__).resolve().parent.parent
OPERATORS = "docs/operators.md"
PAGE_HEIGHT, PAGE_WIDTH = 640, 480
PHOTO_SIZE = 224
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


def inputs(network: str, kind: Literal["pages", "photos"], count: int) -> dict[str, npt.NDArray[np.float32]]:
    """Returns `count` preprocessed samples by input name; of pages, at most those that docs/operators.md has."""
    model = packaged.REGISTRY[network]
    if kind == "pages":
        images = list(islice(render_pages([OPERATORS]), count))
    else:
        images = datasets.centre_crop(datasets.images("imagenet_sample", count)[0], PHOTO_SIZE)
    return {model.input_name: model.preprocessing(images)}


def main(
    network: Annotated[str, typer.Argument(help=f"One of {', '.join(packaged.REGISTRY)}.")],
    kind: Annotated[Literal["pages", "photos"], typer.Argument(help="What the images show.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npz to write.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Number of images.")] = 3,
) -> None:
    """Write real inputs for a packaged network."""
    try:
        np.savez(output, allow_pickle=False, **inputs(network, kind, count))
    except (KeyError, *packaged.LOAD_ERRORS) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    run_command(main, "python -m tools.sample_inputs")
