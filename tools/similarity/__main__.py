"""The command `python -m tools.similarity`: why reuse works, measured on a model and samples of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reuse_compiler.cli.command import Command, run_program, stdout_console
from reuse_compiler.cli.flags import WRITE, Labels, Logging, Overwrite
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.flags import Flag
from tools.similarity.options import STUDIED, SimilarityOptions

HELP = (
    "Study why reuse works: cluster a layer's neuron vectors by several methods and see what accuracy is left.\n\n"
    "One layer at a time is computed from the centroids of its clusters, the rest of the network as it is: the "
    "remaining ratio r_c against the accuracy, as in the papers (inference paper, Fig. 6; training paper, Fig. 7), "
    "for each method, scope, distance and length of the vectors. Accuracy is by the labels, or without them agreement "
    "with the original. Lists are separated by commas."
)
EXAMPLES = """
[bold]Examples[/bold]

  python -m tools.similarity net.onnx --data photos/ --layer conv1 -o study
      all methods on one layer; writes study/similarity.html and study/similarity.json

  python -m tools.similarity net.onnx --data test.npz --labels labels.npy --layer 'conv[12]' --batch 64 --samples 256 \\
      --methods kmeans --scopes image,batch -L whole,25 --clusters 0.01,0.05,0.2 -o study
      K-means in both scopes, whole and sub-vectors; accuracy against labels
"""
app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(cls=Command, help=HELP, epilog=EXAMPLES)
@with_flags
def similarity(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX model.", show_default=False)],
    data: Annotated[
        Path,
        STUDIED,
        Flag(
            "Samples, as for `reuse-compile --verify-data`: .npz, .npy, a folder of those, or of photos with a "
            "preprocessing.json.",
            metavar="PATH",
        ),
    ],
    output: Annotated[Path, WRITE, Flag("Folder for the report.", "-o", metavar="DIR")],
    options: SimilarityOptions,
    labels: Annotated[Labels, STUDIED] = None,
    as_json: Annotated[bool, WRITE, Flag("Print the report as JSON instead of the table.", name="--json")] = False,
    overwrite: Overwrite = False,
    log_level: Logging = "warning",
) -> None:
    """Has the study made, writes and prints it (help text: HELP)."""
    from tools.similarity.files import StudyFiles  # late: onnx takes longer to import than --help should
    from tools.similarity.study import study_file
    from tools.similarity.table import print_study

    files = StudyFiles(output, overwrite)
    with working(log_level) as progress:
        report = study_file(model, data, options, labels=labels, progress=progress)
    files.write(report)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        print_study(report, stdout_console())


if __name__ == "__main__":
    run_program(app, "python -m tools.similarity")
