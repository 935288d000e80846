"""Writes docs/papers.md, and measures what only that page needs.

python -m tools.papers                                 # the page, from the JSON files that are there
python -m tools.papers layers --layer 'vgg19 conv1'    # the inference paper's Table II; layers not named stay
python -m tools.papers curves                          # r_c against accuracy
python -m tools.papers perforation                     # the inference paper's Table IV
"""

from __future__ import annotations

import re
from typing import Annotated

import typer
from pydantic import Field

from reuse_compiler.benchmark.report import describe_machine
from reuse_compiler.cli.bench import Repeats
from reuse_compiler.cli.command import Command, CommandGroup, run_program
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.flags import Flag
from tools.papers import results
from tools.papers.page import PAGE, page

app = typer.Typer(cls=CommandGroup, add_completion=False)


@app.callback(invoke_without_command=True)
def write(context: typer.Context) -> None:
    """Write the page."""
    if context.invoked_subcommand is None:
        PAGE.write_text(page(), encoding="utf-8")
        print(PAGE)


@app.command(cls=Command)
@with_flags
def layers(
    layer: Annotated[str, Flag("Network and layer in whose names this is found.", metavar="RE")] = ".",
    repeats: Repeats = 9,
) -> None:
    """Time the layers of the inference paper's Table II."""
    from tools.papers.layers import LAYERS, measure_layer

    path = results.path_of("layers")
    known = results.Layers.model_validate_json(path.read_text(encoding="utf-8")).layers if path.exists() else []
    found = {f"{own.network} {own.layer}": own for own in known}
    with working() as progress:
        for own in LAYERS:
            if re.search(layer, name := f"{own.network} {own.layer}"):
                found[name] = measure_layer(own, repeats, progress)
    order = [f"{own.network} {own.layer}" for own in LAYERS]
    rows = sorted(found.values(), key=lambda own: order.index(f"{own.network} {own.layer}"))
    results.write(results.Layers(machine=describe_machine(), repeats=repeats, layers=rows), "layers")


@app.command(cls=Command)
@with_flags
def curves() -> None:
    """Measure r_c against accuracy for LSH and K-means."""
    from tools.papers.curves import STUDIES, measure_curves

    with working() as progress:
        measure_curves(STUDIES, progress, lambda found: results.write(found, "curves"))


@app.command(cls=Command)
@with_flags
def perforation(images: Annotated[int, Field(ge=1), Flag("Test images.")] = 5000) -> None:
    """Measure the accuracy of perforated networks."""
    from tools.papers.perforation import measure_perforation

    with working() as progress:
        results.write(measure_perforation(images, progress), "perforation")


if __name__ == "__main__":
    run_program(app, "python -m tools.papers")
