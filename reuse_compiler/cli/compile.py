"""The command `reuse-compile`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.cli.command import Command, LogLevel, end_on_sigterm, logging_to, stderr_console
from reuse_compiler.cli.flags import make_options, parse_shapes, print_version
from reuse_compiler.cli.progress import ProgressBars
from reuse_compiler.errors import ConfigError
from reuse_compiler.options import CompileOptions
from reuse_compiler.report import ModelReport
from reuse_compiler.reports.calibration_table import print_calibration
from reuse_compiler.reports.compilation_table import print_report
from reuse_compiler.reuse.config import FamilyName, Lowering, Metric, Scope, TableType

NOTHING_REWRITTEN = 3

WHICH, HOW, CHECK, WRITE = "Which layers", "How they are rewritten", "Verification", "Result and messages"
CALIBRATION = "Calibration (all that reuse-calibrate does, with its defaults)"

HELP = (
    "Make the convolutions of an ONNX model reuse results.\n\n"
    "Similar vectors in a layer's input are clustered at run time and multiplied once per cluster. The result is a "
    "model that plain onnxruntime runs with the operator library of this package. It is run against the original, and "
    "the errors and times are printed."
)
EXAMPLES = """
[bold]Examples[/bold]

  reuse-compile net.onnx
      writes net.reuse.onnx and prints what became of every convolution

  reuse-compile net.onnx --dry-run
      only prints what would be rewritten, and why the rest would not

  reuse-compile net.onnx --shape images:8,3,640,640 --verify-data photos/
      a model with dynamic sizes, measured on real inputs

  reuse-compile net.onnx --family exact --layers 'block[12]'
      lossless reuse of identical vectors in some layers

  reuse-compile net.onnx --config net.reuse.json --report report.json
      settings by layer from a file, everything measured into another

  reuse-compile net.onnx --calibration-data photos/ --max-drop 0.005
      finds the settings out first, within a budget of accuracy, and writes them into net.reuse.json

[bold]To run the result[/bold]

  import reuse_compiler
  session = reuse_compiler.session("net.reuse.onnx")
  outputs = session.run(None, {"images": images})

[bold]Exit codes[/bold]  0 rewritten, 3 nothing to rewrite (the result is written all the same),
            2 wrong usage or configuration, 1 failure, 130 interrupted
"""
FLAGS = {"sub_vector_length": "-L", "num_hashes": "-H"}
"""Flags that are not called as the option they set."""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(cls=Command, help=HELP, epilog=EXAMPLES)
def compile_model(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX model to compile.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT", help="The result. [dim]default: MODEL.reuse.onnx[/dim]"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=WHICH,
            help="Settings by layer, as calibration writes them; layers that it does not name stay dense.",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(metavar="RE", rich_help_panel=WHICH, help="Only layers in whose name this is found."),
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(metavar="RE", rich_help_panel=WHICH, help="No layers in whose name this is found."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", rich_help_panel=WHICH, help="Also layers that are predicted to become slower."),
    ] = False,
    family: Annotated[
        FamilyName | None,
        typer.Option(
            rich_help_panel=HOW,
            help="How neuron vectors are hashed: sign (random hyperplanes), learned (needs --config) or "
            "exact (lossless). [dim]default: sign[/dim]",
        ),
    ] = None,
    sub_vector_length: Annotated[
        int | None,
        typer.Option(
            "-L",
            "--sub-vector-length",
            metavar="n",
            min=1,
            rich_help_panel=HOW,
            help="Elements of a neuron vector: fewer are more exact, more are faster. "
            "[dim]default: the channels of the layer's input[/dim]",
        ),
    ] = None,
    num_hashes: Annotated[
        int | None,
        typer.Option(
            "-H",
            "--num-hashes",
            metavar="n",
            min=1,
            max=64,
            rich_help_panel=HOW,
            help="Hash functions: more make more and tighter clusters. [dim]default: by the layer's size[/dim]",
        ),
    ] = None,
    scope: Annotated[
        Scope | None,
        typer.Option(
            rich_help_panel=HOW,
            help="Whether vectors of one image or of the whole batch share clusters. [dim]default: batch[/dim]",
        ),
    ] = None,
    layout: Annotated[
        Literal["auto", "patch", "channel"],
        typer.Option(
            rich_help_panel=HOW,
            help="Vectors are parts of a patch or channels of a pixel; auto: channel where L divides the channels.",
        ),
    ] = "auto",
    metric: Annotated[
        Metric | None,
        typer.Option(
            rich_help_panel=HOW, help="What a centroid keeps of its members. [dim]default: euclidean, their mean[/dim]"
        ),
    ] = None,
    table: Annotated[
        TableType | None,
        typer.Option(
            rich_help_panel=HOW,
            help="What products are kept as: int8 makes small L affordable at a little error (fused only). "
            "[dim]default: float[/dim]",
        ),
    ] = None,
    capacity: Annotated[
        float | None,
        typer.Option(
            metavar="r",
            min=0.0,
            max=1.0,
            rich_help_panel=HOW,
            help="Clusters per vector (above 0, up to 1) beyond which a run computes the rest densely. "
            "[dim]default: 1, no limit[/dim]",
        ),
    ] = None,
    lowering: Annotated[
        Lowering,
        typer.Option(rich_help_panel=HOW, help="One operator per layer, or its four stages to look into."),
    ] = "fused",
    data_order: Annotated[
        Literal["auto", "nchw", "nhwc"],
        typer.Option(
            rich_help_panel=HOW,
            help="Order of data between rewritten layers where only elementwise operators and pooling see them; auto: "
            "nhwc where there is pooling.",
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(metavar="n", min=0, rich_help_panel=HOW, help="Seed of everything random.")] = 0,
    calibration_data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            rich_help_panel=CALIBRATION,
            help="Find out layers and settings from these samples first: files or photos as for --verify-data, or a "
            "Python reader, file.py\\[:function]. Writes them beside the result, as MODEL.reuse.json.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=CALIBRATION, help="The samples' classes: .npy, .npz, .txt, .csv."),
    ] = None,
    calibration_metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=CALIBRATION,
            help="What must not suffer: top1, agreement, iou, cosine, mse, kl, or python:module:function. "
            "[dim]default: top1 with labels, agreement for a classifier, else cosine[/dim]",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="x",
            rich_help_panel=CALIBRATION,
            help="How much worse than the original's it may be. [dim]default: 0.0005[/dim]",
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:SIZES",
            rich_help_panel=CHECK,
            help="Sizes of an input that has dynamic ones, as in images:1,3,224,224; repeat it for further inputs. "
            "Settings are chosen and random inputs made for them.",
        ),
    ] = None,
    verify_data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            rich_help_panel=CHECK,
            help="Inputs to measure on: an .npz keyed by input names, an .npy for a single input, a folder of those, "
            "or a folder of photos with a preprocessing.json. The first axis counts samples; they are run in batches "
            "of the model's size, else of that in --shape, else one by one. [dim]default: random numbers[/dim]",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify", rich_help_panel=CHECK, help="Run both models, and measure errors and times."
        ),
    ] = True,
    threads: Annotated[
        int, typer.Option(metavar="n", min=1, rich_help_panel=CHECK, help="Threads of each model while measuring.")
    ] = 1,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", rich_help_panel=WRITE, help="Print what would be done; run and write nothing."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=WRITE, help="Replace files that exist.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=WRITE, help="Write all that was decided and measured as JSON."),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(rich_help_panel=WRITE, help="What to tell on stderr.")] = "warning",
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=print_version, help="Print versions and exit."),
    ] = False,
) -> None:
    """Turns the flags into options, has the model compiled, prints the report (help text: HELP)."""
    options = make_options(
        CompileOptions,
        FLAGS,
        config=config,
        layers=layers,
        exclude=exclude,
        family=family,
        sub_vector_length=sub_vector_length,
        num_hashes=num_hashes,
        scope=scope,
        layout=layout,
        lowering=lowering,
        data_order=data_order,
        capacity=capacity,
        metric=metric,
        table=table,
        force=force,
        seed=seed,
        shapes=parse_shapes(shape or []),
    )
    calibration = make_options(
        CalibrationOptions,
        {"metric": "--calibration-metric"},
        metric=calibration_metric,
        max_drop=max_drop,
        threads=threads,
    )
    given = {"--labels": labels, "--calibration-metric": calibration_metric, "--max-drop": max_drop}
    _check_calibration(calibration_data, given, dry_run)
    if report is not None:
        _check_report(report, model, output, calibration_data is not None, overwrite)

    console = stderr_console()
    found: CalibrationReport | None = None
    with logging_to(console, log_level), ProgressBars(console) as progress:
        if calibration_data is None:
            from reuse_compiler.compiler import compile_file  # late: onnx takes longer to import than --help should

            result = compile_file(
                model,
                output,
                options,
                overwrite=overwrite,
                dry_run=dry_run,
                verify=verify,
                verify_data=verify_data,
                threads=threads,
                progress=progress,
            )
        else:
            from reuse_compiler.calibrated import calibrate_and_compile

            found, result = calibrate_and_compile(
                model,
                calibration_data,
                output,
                options,
                calibration,
                labels=labels,
                overwrite=overwrite,
                verify=verify,
                verify_data=verify_data,
                threads=threads,
                progress=progress,
            )
    if found is not None:
        print_calibration(found, Console())
    _finish(result, report, overwrite)


def _check_calibration(data: str | None, flags: Mapping[str, object], dry_run: bool) -> None:
    """Refuses flags of a calibration without data for it, and one that must not run the model."""
    useless = [flag for flag, value in flags.items() if value is not None]
    if data is None and useless:
        raise ConfigError(f"{' and '.join(useless)} cannot be used without --calibration-data")
    if data is not None and dry_run:
        raise ConfigError("--calibration-data has to run the model, which --dry-run does not: give one of them")


def _check_report(report: Path, model: Path, output: Path | None, calibrates: bool, overwrite: bool) -> None:
    """Refuses an impossible place for the report before any work is done."""
    from reuse_compiler.compiler import default_output
    from reuse_compiler.configuration import configuration_of
    from reuse_compiler.graph.save import check_output

    if report.resolve() in {model.resolve(), (output or default_output(model)).resolve()}:
        raise ConfigError(f"the report {report} would replace the model: give another name with --report")
    if calibrates and report.resolve() == configuration_of(output or default_output(model)).resolve():
        raise ConfigError(f"the report {report} would replace the configuration: give another name with --report")
    check_output(report, overwrite)


def _finish(result: ModelReport, report: Path | None, overwrite: bool) -> None:
    if report is not None:
        from reuse_compiler.reports.json_file import write_report

        write_report(result, report, overwrite)
    print_report(result, Console())
    if not any(layer.decision == "reuse" for layer in result.layers):
        raise typer.Exit(NOTHING_REWRITTEN)


def main() -> None:
    """Entry point of the program."""
    end_on_sigterm()
    app(prog_name="reuse-compile")


if __name__ == "__main__":
    main()
