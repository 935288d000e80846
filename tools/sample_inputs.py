"""Writes real inputs for a packaged network, as `--verify-data` reads them.

python -m tools.sample_inputs craft pages -n 3 -o pages.npz     # rendered pages of this project's documentation
python -m tools.sample_inputs hed photos -n 4 -o photos.npz     # photos of the sample data (see models/README.md)
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import typer

from models import datasets, packaged
from reuse_compiler.cli.command import run_command
from tools.images import OPERATORS, render_pages

PHOTO_SIZE = 224


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
