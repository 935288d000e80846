"""The command `reuse-calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field
from rich.console import Console

from reuse_compiler.calibration.options import BUDGET, DATA, CalibrationOptions
from reuse_compiler.cli.command import (
    BUDGET_BROKEN,
    INTERRUPTED,
    NO_GAIN,
    Command,
    print_error,
    run_program,
)
from reuse_compiler.cli.flags import WRITE, Labels, Logging, Overwrite, Version
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.flags import Flag
from reuse_compiler.reports.calibration_table import print_calibration
from reuse_compiler.reports.calibration_words import breaks_budget, is_success

HELP = """\
Find out, from samples, which convolutions of a model should reuse results, and how.

[bold]Most need no more than one of these, and then the last[/bold]

  reuse-calibrate net.onnx --data photos/
      writes net.reuse.json, which keeps the class of 99.95% of the photos

  reuse-calibrate net.onnx --data photos/ --labels labels.csv --max-drop 0.005
      loses at most half a point of top-1 accuracy

  reuse-compile net.onnx --config net.reuse.json
      makes the model of it

Every layer is measured on this machine with many settings, beside the layer as it is. The fastest choice for the \
whole model that keeps the accuracy budget is written as a configuration for reuse-compile, and checked on samples \
that took no part. Needs no training, and labels only if accuracy is to be counted by them.
"""
EXAMPLES = """
[bold]More examples[/bold]

  reuse-calibrate text.onnx --data pages/ --metric iou:0.4,0 --at-least 0.95 --report text-report
      a detector: overlap of the regions in channel 0; all that was measured, as a page to look at

  reuse-calibrate edges.onnx --data frames.npz --metric psnr --at-least 35 --budget quick
      an image for an image, and a shorter search

  reuse-calibrate net.int8.onnx --reference net.onnx --data photos/
      a quantised model; what quantising has lost counts towards the budget, too

  reuse-calibrate net.onnx --data reader.py:load_data --metric python:score.py:f1
      your own data reader (onnxruntime's CalibrationDataReader) and your own metric

[bold]Exit codes[/bold]  0 settings found, 3 nothing that makes the model faster, 4 more lost on the samples held out
            than the budget allows (with 3 and 4 the configuration is written all the same), 2 wrong usage or
            configuration, 1 failure, 130 interrupted (--resume goes on)
"""
app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(cls=Command, help=HELP, epilog=EXAMPLES)
@with_flags
def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX model to calibrate.", show_default=False)],
    data: Annotated[
        str,
        DATA,
        Flag(
            "Samples: an .npz keyed by input names, an .npy for a single input, a folder of those, a folder of photos "
            "with a preprocessing.json, or a Python reader, file.py\\[:function] or module:function.",
            metavar="PATH",
        ),
    ],
    options: CalibrationOptions,
    output: Annotated[Path | None, Flag("The configuration.", "-o", metavar="OUT", default="MODEL.reuse.json")] = None,
    labels: Annotated[Labels, DATA] = None,
    reference: Annotated[
        Path | None,
        BUDGET,
        Flag(
            "The model that this one was made of, such as the float model of a quantised one: the budget is kept "
            "beside its outputs and its accuracy, in place of this model's own.",
            metavar="MODEL",
        ),
    ] = None,
    batch: Annotated[
        int | None, Field(ge=1), DATA, Flag("Samples per run, for models that leave it open: as used later.")
    ] = None,
    resume: Annotated[bool, WRITE, Flag("Go on where an interrupted calibration ended.")] = False,
    overwrite: Overwrite = False,
    report: Annotated[
        Path | None,
        WRITE,
        Flag(
            "Write all that was decided and measured into this folder: report.json, and report.html to look at. "
            "(reuse-compile, which has no page, takes a file.)",
            metavar="DIR",
        ),
    ] = None,
    log_level: Logging = "warning",
    version: Version = False,
) -> None:
    """Has the model calibrated and prints the report (help text: HELP)."""
    if batch is not None:
        options = _batched(options, batch, model)
    from reuse_compiler.calibration.calibrate import calibrate_file  # late: onnx takes longer to import than --help

    try:
        with working(log_level) as progress:
            result = calibrate_file(
                model,
                data,
                output,
                options,
                labels=labels,
                reference=reference,
                report=report,
                resume=resume,
                overwrite=overwrite,
                progress=progress,
            )
    except KeyboardInterrupt as error:
        print_error("interrupted; the same command with --resume goes on from here")
        raise typer.Exit(INTERRUPTED) from error
    print_calibration(result, Console(), report)
    if breaks_budget(result):
        raise typer.Exit(BUDGET_BROKEN)
    if not is_success(result):
        raise typer.Exit(NO_GAIN)


def _batched(options: CalibrationOptions, batch: int, model: Path) -> CalibrationOptions:
    """The options with shapes of that batch size."""
    from reuse_compiler.calibration.batch import with_batch
    from reuse_compiler.graph import load_model
    from reuse_compiler.verification.inputs import model_inputs

    shapes = with_batch(options.shapes, batch, model_inputs(load_model(model)))
    return options.model_copy(update={"shapes": shapes})


def main() -> None:
    """Entry point of the program."""
    run_program(app, "reuse-calibrate")


if __name__ == "__main__":
    main()
