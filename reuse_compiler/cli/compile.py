"""The command `reuse-compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from reuse_compiler.calibration.options import AtLeast, CalibrationOptions, DropTypeChoice, MaxDrop, MetricName
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.cli.command import BUDGET_BROKEN, NO_GAIN, Command, run_program
from reuse_compiler.cli.flags import WRITE, Env, Labels, Logging, Overwrite, Version
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.errors import ConfigError
from reuse_compiler.flags import Conflict, Flag, Panel, refuse
from reuse_compiler.options import CHECK, CompileOptions, Threads
from reuse_compiler.paths import real_path
from reuse_compiler.reports.calibration_table import print_calibration
from reuse_compiler.reports.calibration_words import breaks_budget
from reuse_compiler.reports.compilation_table import print_report

HELP = """\
Make the convolutions of an ONNX model reuse results.

[bold]Most need no more than one of these[/bold]

  reuse-compile net.onnx
      writes net.reuse.onnx, which loses nothing, and prints what was done

  reuse-compile net.onnx --verify-data photos/
      takes the layers where that is measured to pay on your inputs

  reuse-compile net.onnx --calibration-data photos/ --max-drop 0.005
      faster: finds settings that lose no more than half a point of accuracy

Similar vectors in a layer's input are clustered at run time and multiplied once per cluster. The result runs in any \
onnxruntime: with the operator library of this package by reuse, without it as the original did. It is run against \
the original, and the errors and times are printed.
"""
EXAMPLES = """
[bold]More examples[/bold]

  reuse-compile net.onnx --dry-run
      only prints what would be rewritten, and why the rest would not

  reuse-compile net.onnx --shape images:8,3,640,640 --verify-data photos/
      a model with dynamic sizes

  reuse-compile net.onnx --layers 'block[12]'
      some layers only

  reuse-compile net.onnx --config net.reuse.json --report report.json
      settings by layer from a file, everything measured into another

[bold]To run the result[/bold]

  import reuse_compiler
  session = reuse_compiler.session("net.reuse.onnx")
  outputs = session.run(None, {"images": images})

[bold]Exit codes[/bold]  0 rewritten, 3 nothing to rewrite, 4 a calibration lost more on the samples held out than the
            budget allows (with 3 and 4 the result is written all the same), 2 wrong usage or configuration,
            1 failure, 130 interrupted
"""
CALIBRATION = Panel("Calibration (all that reuse-calibrate does, with its defaults)", 3)
NEEDS_SAMPLES = Conflict("without --calibration-data")


class Calibration(BaseModel):
    """A calibration before the compilation."""

    model_config = ConfigDict(allow_inf_nan=False)

    calibration_data: Annotated[
        str | None,
        CALIBRATION,
        Flag(
            "Find out layers and settings from these samples first: files or photos as for --verify-data, or a Python "
            "reader, file.py\\[:function]. Writes them beside the result, as MODEL.reuse.json.",
            metavar="PATH",
        ),
    ] = None
    labels: Annotated[Labels, CALIBRATION, NEEDS_SAMPLES] = None
    metric: Annotated[MetricName, CALIBRATION, NEEDS_SAMPLES] = None
    max_drop: Annotated[MaxDrop, CALIBRATION, NEEDS_SAMPLES] = None
    drop_type: Annotated[DropTypeChoice, CALIBRATION, NEEDS_SAMPLES] = None
    at_least: Annotated[AtLeast, CALIBRATION, NEEDS_SAMPLES] = None


app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(cls=Command, help=HELP, epilog=EXAMPLES)
@with_flags
def compile_model(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX model to compile.", show_default=False)],
    options: CompileOptions,
    calibration: Calibration,
    output: Annotated[Path | None, Flag("The result.", "-o", metavar="OUT", default="MODEL.reuse.onnx")] = None,
    verify_data: Annotated[
        Path | None,
        CHECK,
        Flag(
            "Inputs to measure on: an .npz keyed by input names, an .npy for a single input, a folder of those, or a "
            "photo or folder of photos with a preprocessing.json. The first axis counts samples; they are run in "
            "batches of the model's size, else of that in --shape, else one by one.",
            metavar="PATH",
            default="random numbers, of the sizes in --shape",
        ),
    ] = None,
    verify: Annotated[bool, CHECK, Flag("Run both models, and measure errors and times.")] = True,
    threads: Annotated[Threads, CHECK] = 1,
    dry_run: Annotated[bool, WRITE, Flag("Print what would be done; run and write nothing.")] = False,
    overwrite: Overwrite = False,
    report: Annotated[
        Path | None,
        WRITE,
        Flag(
            "Write all that was decided and measured to this file, as JSON. (reuse-calibrate, which draws a page, too, "
            "takes a folder.)",
            metavar="FILE",
        ),
    ] = None,
    log_level: Logging = "warning",
    version: Version = False,
    env: Env = False,
) -> None:
    """Has the model compiled and prints the report (help text: HELP)."""
    if calibration.calibration_data is None:
        refuse(calibration, NEEDS_SAMPLES)
    elif dry_run:
        raise ConfigError("--calibration-data has to run the model, which --dry-run does not: give one of them")
    if report is not None:
        _check_report(report, model, output, calibration.calibration_data is not None, overwrite)
        if report.exists():  # and so --overwrite is given
            _check_unread(report, model, options, verify_data, calibration)

    found: CalibrationReport | None = None
    with working(log_level) as progress:
        if calibration.calibration_data is None:
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
                calibration.calibration_data,
                output,
                options,
                CalibrationOptions(**calibration.model_dump(exclude={"calibration_data", "labels"}), threads=threads),
                labels=calibration.labels,
                overwrite=overwrite,
                verify=verify,
                verify_data=verify_data,
                threads=threads,
                progress=progress,
            )
    if found is not None:
        print_calibration(found, Console())
    if report is not None:
        from reuse_compiler.reports.json_file import write_report

        write_report(result, report, overwrite)
    print_report(result, Console())
    if not any(layer.decision == "reuse" for layer in result.layers):
        raise typer.Exit(NO_GAIN)
    if found is not None and breaks_budget(found):
        raise typer.Exit(BUDGET_BROKEN)


def _check_report(report: Path, model: Path, output: Path | None, calibrates: bool, overwrite: bool) -> None:
    """Refuses an impossible place for the report before any work is done."""
    from reuse_compiler.compiler import default_output
    from reuse_compiler.configuration import configuration_of, parameters_path
    from reuse_compiler.graph.save import check_output

    if real_path(report) in {real_path(model), real_path(output or default_output(model))}:
        raise ConfigError(f"the report {report} would replace the model: give another name with --report")
    config = configuration_of(output or default_output(model))
    if calibrates and real_path(report) in {real_path(config), real_path(parameters_path(config))}:
        raise ConfigError(f"the report {report} would replace the configuration: give another name with --report")
    check_output(report, overwrite)


def _check_unread(
    report: Path, model: Path, options: CompileOptions, verify_data: Path | None, calibration: Calibration
) -> None:
    """Refuses to write the report over a file that is read."""
    from reuse_compiler.compiler import files_read
    from reuse_compiler.graph import load_model
    from reuse_compiler.graph.save import refuse_read

    read = files_read(load_model(model), model, options, verify_data)
    if calibration.calibration_data is not None:
        from reuse_compiler.calibration.calibrate import files_calibrated_on

        read |= files_calibrated_on(calibration.calibration_data, calibration.labels, calibration.metric)
    refuse_read(report, read)


def main() -> None:
    """Entry point of the program."""
    run_program(app, "reuse-compile")


if __name__ == "__main__":
    main()
