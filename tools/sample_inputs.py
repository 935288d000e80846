"""Writes real inputs for a packaged network, as `--verify-data` reads them.

python -m tools.sample_inputs craft pages -n 3 -o pages.npz     # rendered pages of this project's documentation
python -m tools.sample_inputs hed photos -n 4 -o photos.npz     # photos of the sample data (see models/README.md)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image, ImageDraw, ImageFont

from models import datasets, packaged
from models.datasets import RgbImage

ROOT = Path(__file__).resolve().parent.parent
PAGE_HEIGHT, PAGE_WIDTH = 640, 480
PHOTO_SIZE = 224
LINE_HEIGHT, MARGIN, LINES_PER_PAGE, COLUMNS = 22, 32, 23, 56


def render_page(number: int = 0) -> RgbImage:
    """Returns page `number` [640, 480, 3] of docs/operators.md, black on white."""
    page = Image.new("RGB", (PAGE_WIDTH, PAGE_HEIGHT), "white")
    draw, top = ImageDraw.Draw(page), 80
    draw.text((MARGIN, 24), "reuse-compiler", font=ImageFont.load_default(32), fill="black")
    lines = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8").splitlines()
    for line in lines[number * LINES_PER_PAGE : (number + 1) * LINES_PER_PAGE]:
        draw.text((MARGIN, top), line[:COLUMNS], font=ImageFont.load_default(15), fill="black")
        top += LINE_HEIGHT
    return np.asarray(page)


def inputs(network: str, kind: Literal["pages", "photos"], count: int) -> dict[str, npt.NDArray[np.float32]]:
    """Returns `count` preprocessed samples by input name."""
    model = packaged.REGISTRY[network]
    if kind == "pages":
        images = [render_page(number) for number in range(count)]
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
    typer.run(main)
