"""The command `python -m tools.similarity`: why reuse works, measured on a model and samples of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reuse_compiler.cli.command import (
    Command,
    LogLevel,
    end_on_sigterm,
    logging_to,
    stderr_console,
    stdout_console,
)
from reuse_compiler.cli.flags import make_options, parse_shapes
from reuse_compiler.cli.progress import ProgressBars

HELP = (
    "Study why reuse works: cluster a layer's neuron vectors by several methods and see what accuracy is left.\n\n"
    "One layer at a time is computed from the centroids of its clusters, the rest of the network as it is: the "
    "remaining ratio r_c against the accuracy, as in the papers (inference paper, Fig. 6; training paper, Fig. 7), "
    "for each method, scope, distance and length of the vectors. Lists are separated by commas."
)
EXAMPLES = """
[bold]Examples[/bold]

  python -m tools.similarity net.onnx --data photos/ --layer conv1 -o study
      all methods on one layer; writes study/similarity.html and study/similarity.json

  python -m tools.similarity net.onnx --data test.npz --labels labels.npy --layer 'conv[12]' --batch 64 --samples 256 \\
      --methods kmeans --scopes image,batch -L whole,25 --clusters 0.01,0.05,0.2 -o study
      K-means in both scopes, whole and sub-vectors; accuracy against labels
"""
FLAGS = {"layers": "--layer", "lengths": "-L", "hashes": "-H"}
"""Flags that are not called as the option they set."""
WHAT, METHODS, RESULT = "What is studied", "Methods and their efforts", "Result and messages"

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",")]


def _lengths(text: str | None) -> list[str] | None:
    words = _words(text)
    return None if words is None else ["0" if word == "whole" else word for word in words]


@app.command(cls=Command, help=HELP, epilog=EXAMPLES)
def similarity(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX model.", show_default=False)],
    data: Annotated[
        Path,
        typer.Option(
            metavar="PATH",
            rich_help_panel=WHAT,
            help="Samples, as for `reuse-compile --verify-data`: .npz, .npy, a folder of those, or of photos with a "
            "preprocessing.json.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", rich_help_panel=RESULT, help="Folder for the report.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=WHAT,
            help="Classes of the samples, as integers. [dim]default: accuracy is agreement with the original[/dim]",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="RE", rich_help_panel=WHAT, help="Layers in whose name this is found. [dim]default: all[/dim]"
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="n", rich_help_panel=WHAT, help="Samples per run. [dim]default: 1[/dim]")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(metavar="n", rich_help_panel=WHAT, help="Samples to use. [dim]default: all[/dim]")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:SIZES",
            rich_help_panel=WHAT,
            help="Sizes of a dynamic input, as in images:1,3,224,224; may be repeated.",
        ),
    ] = None,
    methods: Annotated[
        str | None, typer.Option(metavar="LIST", rich_help_panel=METHODS, help="Of kmeans, hypercube, lsh.")
    ] = None,
    scopes: Annotated[
        str | None, typer.Option(metavar="LIST", rich_help_panel=METHODS, help="Of image, batch.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="LIST", rich_help_panel=METHODS, help="Distances, of angular, euclidean.")
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option("-L", "--lengths", metavar="LIST", rich_help_panel=METHODS, help="[dim]default: whole,25[/dim]"),
    ] = None,
    clusters: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            rich_help_panel=METHODS,
            help="Clusters of K-means per image or batch; below 1 as a share of the vectors.",
        ),
    ] = None,
    max_clusters: Annotated[
        int | None, typer.Option(metavar="n", rich_help_panel=METHODS, help="K-means with more is left out.")
    ] = None,
    bins: Annotated[
        str | None, typer.Option(metavar="LIST", rich_help_panel=METHODS, help="Bins per dimension of Hyper-Cube.")
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(metavar="n", rich_help_panel=METHODS, help="Dimensions that Hyper-Cube cuts into bins."),
    ] = None,
    hashes: Annotated[
        str | None, typer.Option("-H", "--hashes", metavar="LIST", rich_help_panel=METHODS, help="Hyperplanes of LSH.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="n", rich_help_panel=METHODS, help="Of everything random.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="n", rich_help_panel=METHODS, help="Threads that the model runs with.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel=RESULT, help="Print the report as JSON instead of the table.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=RESULT, help="Replace files that exist.")
    ] = False,
    log_level: Annotated[LogLevel, typer.Option(rich_help_panel=RESULT, help="What to tell on stderr.")] = "warning",
) -> None:
    """Turns the flags into options, has the study made, writes and prints it (help text: HELP)."""
    given: dict[str, Any] = {
        "layers": layer,
        "batch": batch,
        "samples": samples,
        "methods": _words(methods),
        "scopes": _words(scopes),
        "metrics": _words(metrics),
        "lengths": _lengths(lengths),
        "clusters": _words(clusters),
        "max_clusters": max_clusters,
        "bins": _words(bins),
        "dimensions": dimensions,
        "hashes": _words(hashes),
        "seed": seed,
        "threads": threads,
        "shapes": parse_shapes(shape or []),
    }
    from tools.similarity.files import StudyFiles  # late: onnx takes longer to import than --help should
    from tools.similarity.options import SimilarityOptions
    from tools.similarity.study import study_file
    from tools.similarity.table import print_study

    options = make_options(
        SimilarityOptions, FLAGS, **{name: value for name, value in given.items() if value is not None}
    )
    files = StudyFiles(output, overwrite)
    console = stderr_console()
    with logging_to(console, log_level), ProgressBars(console) as progress:
        report = study_file(model, data, options, labels=labels, progress=progress)
    files.write(report)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        print_study(report, stdout_console())


def main() -> None:
    """Entry point of the program."""
    end_on_sigterm()
    app(prog_name="python -m tools.similarity")


if __name__ == "__main__":
    main()
