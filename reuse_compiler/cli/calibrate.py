"""The command `reuse-calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reuse_compiler.calibration.options import (
    BudgetName,
    CalibrationOptions,
    FamilyChoice,
    Objective,
    Strategy,
)
from reuse_compiler.cli.command import (
    INTERRUPTED,
    Command,
    LogLevel,
    end_on_sigterm,
    logging_to,
    print_error,
    stderr_console,
)
from reuse_compiler.cli.flags import make_options, parse_shapes, print_version
from reuse_compiler.cli.progress import ProgressBars
from reuse_compiler.fitting.reconstruct import Reconstruct
from reuse_compiler.reports.calibration_table import print_calibration
from reuse_compiler.reuse.config import Scope
from reuse_compiler.runtime import ProviderName

NO_LAYER_GAINS = 3

DATA, BUDGET, SEARCH, WRITE = "Data", "Accuracy budget", "Search", "Result and messages"

HELP = (
    "Find out, from samples, which convolutions of a model should reuse results, and how.\n\n"
    "Every layer is measured on this machine with many settings, beside the layer as it is. The fastest choice for the "
    "whole model that keeps the accuracy budget is written as a configuration for reuse-compile, and checked on "
    "samples that took no part. Needs no training, and labels only if accuracy is to be counted by them."
)
EXAMPLES = """
[bold]Examples[/bold]

  reuse-calibrate net.onnx --data photos/
      finds settings that change the classes of at most 0.05% of the photos, and writes net.reuse.json

  reuse-compile net.onnx --config net.reuse.json
      makes the model of it

  reuse-calibrate net.onnx --data images.npz --labels labels.npy --max-drop 0.005
      at most half a point of top-1 accuracy

  reuse-calibrate text.onnx --data pages/ --metric iou:0.4,0 --at-least 0.95 --report text-report
      a detector: overlap of the regions in channel 0; all that was measured, as a page to look at

  reuse-calibrate edges.onnx --data frames.npz --metric psnr --at-least 35 --budget quick
      an image for an image, and a shorter search

  reuse-calibrate net.onnx --data reader.py:load_data --metric python:score.py:f1
      your own data reader (onnxruntime's CalibrationDataReader) and your own metric

[bold]Exit codes[/bold]  0 settings found, 3 no layer gains (the configuration is written all the same),
            2 wrong usage or configuration, 1 failure, 130 interrupted (--resume goes on)
"""
FLAGS = {"shapes": "--shape"}
"""Flags that are not called as the option they set."""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(cls=Command, help=HELP, epilog=EXAMPLES)
def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX model to calibrate.", show_default=False)],
    data: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            rich_help_panel=DATA,
            show_default=False,
            help="Samples: an .npz keyed by input names, an .npy for a single input, a folder of those, a folder of "
            "photos with a preprocessing.json, or a Python reader, file.py\\[:function] or module:function.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="The configuration. [dim]default: MODEL.reuse.json[/dim]"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=DATA,
            help="The samples' classes, in their order: .npy, .npz, .txt or .csv (last column; for photos also "
            "file name,label).",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="n",
            min=1,
            rich_help_panel=DATA,
            help="Samples per run, for models that leave it open: as used later.",
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:SIZES",
            rich_help_panel=DATA,
            help="Sizes of an input that has dynamic ones, as in images:8,3,224,224; repeat it for further inputs.",
        ),
    ] = None,
    holdout: Annotated[
        float,
        typer.Option(metavar="share", rich_help_panel=DATA, help="Share of the samples that only the last check sees."),
    ] = 0.3,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=BUDGET,
            help="top1, agreement (same class as the original), iou\\[:threshold,channel], psnr, cosine, mse, kl, or "
            "python:module:function. [dim]default: top1 with labels, agreement for a classifier, else cosine[/dim]",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="x",
            rich_help_panel=BUDGET,
            help="How much worse than the original's the metric may be. [dim]default: 0.0005[/dim]",
        ),
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(
            metavar="x",
            rich_help_panel=BUDGET,
            help="The value it must keep instead (for mse and kl: stay below); psnr needs it.",
        ),
    ] = None,
    objective: Annotated[
        Objective, typer.Option(rich_help_panel=SEARCH, help="Make the model's time least, or its operations.")
    ] = "latency",
    strategy: Annotated[
        Strategy,
        typer.Option(rich_help_panel=SEARCH, help="Search over all layers together, or the papers' choice by layer."),
    ] = "search",
    reconstruct: Annotated[
        Reconstruct,
        typer.Option(
            rich_help_panel=SEARCH,
            help="What makes up for the error: a scale and offset per channel (statistics) or a refit of the weights, "
            "both folded into the model at no cost in time.",
        ),
    ] = "weights",
    family: Annotated[FamilyChoice, typer.Option(rich_help_panel=SEARCH, help="How vectors are hashed.")] = "learned",
    scope: Annotated[
        Scope, typer.Option(rich_help_panel=SEARCH, help="Whether images of a batch share clusters.")
    ] = "batch",
    budget: Annotated[
        BudgetName, typer.Option(rich_help_panel=SEARCH, help="How many settings are tried, and on how much data.")
    ] = "default",
    layers: Annotated[
        str | None,
        typer.Option(metavar="RE", rich_help_panel=SEARCH, help="Only layers in whose name this is found."),
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(metavar="RE", rich_help_panel=SEARCH, help="No layers in whose name this is found."),
    ] = None,
    provider: Annotated[
        ProviderName, typer.Option(rich_help_panel=SEARCH, help="Where everything runs that is measured.")
    ] = "cpu",
    threads: Annotated[
        int, typer.Option(metavar="n", min=1, rich_help_panel=SEARCH, help="Threads of everything that is timed.")
    ] = 1,
    seed: Annotated[
        int, typer.Option(metavar="n", min=0, rich_help_panel=SEARCH, help="Seed of everything random.")
    ] = 0,
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=WRITE, help="Go on where an interrupted calibration ended."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=WRITE, help="Replace files that exist.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            rich_help_panel=WRITE,
            help="Write all that was decided and measured into this folder: report.json, and report.html to look at.",
        ),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(rich_help_panel=WRITE, help="What to tell on stderr.")] = "warning",
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=print_version, help="Print versions and exit."),
    ] = False,
) -> None:
    """Turns the flags into options, has the model calibrated, prints the report (help text: HELP)."""
    options = make_options(
        CalibrationOptions,
        FLAGS,
        metric=metric,
        max_drop=max_drop,
        at_least=at_least,
        objective=objective,
        strategy=strategy,
        reconstruct=reconstruct,
        family=family,
        scope=scope,
        budget=budget,
        layers=layers,
        exclude=exclude,
        holdout=holdout,
        provider=provider,
        threads=threads,
        seed=seed,
        shapes=parse_shapes(shape or []),
    )
    if batch is not None:
        options = _batched(options, batch, model)
    from reuse_compiler.calibration.calibrate import calibrate_file  # late: onnx takes longer to import than --help

    console = stderr_console()
    try:
        with logging_to(console, log_level), ProgressBars(console) as progress:
            result = calibrate_file(
                model,
                data,
                output,
                options,
                labels=labels,
                report=report,
                resume=resume,
                overwrite=overwrite,
                progress=progress,
            )
    except KeyboardInterrupt as error:
        print_error("interrupted; the same command with --resume goes on from here")
        raise typer.Exit(INTERRUPTED) from error
    print_calibration(result, Console(), report)
    if not any(layer.decision == "reuse" for layer in result.layers):
        raise typer.Exit(NO_LAYER_GAINS)


def _batched(options: CalibrationOptions, batch: int, model: Path) -> CalibrationOptions:
    """The options with shapes of that batch size."""
    from reuse_compiler.calibration.batch import with_batch
    from reuse_compiler.graph import load_model
    from reuse_compiler.verification.inputs import model_inputs

    shapes = with_batch(options.shapes, batch, model_inputs(load_model(model)))
    return options.model_copy(update={"shapes": shapes})


def main() -> None:
    """Entry point of the program."""
    end_on_sigterm()
    app(prog_name="reuse-calibrate")


if __name__ == "__main__":
    main()
