"""The command `reuse-compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console

from reuse_compiler.cli.command import Command, LogLevel, end_on_sigterm, logging_to, stderr_console
from reuse_compiler.cli.progress import ProgressBars
from reuse_compiler.errors import ConfigError
from reuse_compiler.options import CompileOptions
from reuse_compiler.reports.model import ModelReport
from reuse_compiler.reports.table import print_report
from reuse_compiler.reuse.config import FamilyName, Lowering, Metric, Scope, TableType, describe_validation_error

NOTHING_REWRITTEN = 3

WHICH, HOW, CHECK, WRITE = "Which layers", "How they are rewritten", "Verification", "Result and messages"

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


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Reads `name:1,3,224,224`; the name may have colons."""
    name, _, sizes = text.rpartition(":")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not name or not shape or min(shape) < 1:
        raise typer.BadParameter(f"'{text}' is not NAME:SIZES, as in images:1,3,224,224", param_hint="'--shape'")
    return name, shape


def parse_shapes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    """Reads all values of --shape; one per input."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in map(parse_shape, texts):
        if shapes.setdefault(name, shape) != shape:
            raise typer.BadParameter(f"two different shapes for the input '{name}'", param_hint="'--shape'")
    return shapes


def make_options(**values: object) -> CompileOptions:
    """Builds the compiler's options; a value that it refuses becomes a ConfigError that names the flag."""
    try:
        return CompileOptions.model_validate(values)
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        flag = FLAGS.get(field, "--" + field.replace("_", "-"))
        raise ConfigError(f"{flag}: {describe_validation_error(error).removeprefix(f'{field}: ')}") from error


def print_version(wanted: bool) -> None:
    """Prints the versions of everything that a result depends on, and ends the program."""
    if wanted:
        from reuse_compiler.compiler import versions

        typer.echo("\n".join(f"{name} {version}" for name, version in versions().items()))
        raise typer.Exit()


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
            help="How neuron vectors are hashed: sign (random hyperplanes), pstable, learned (needs --config) or "
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
    seed: Annotated[int, typer.Option(metavar="n", min=0, rich_help_panel=HOW, help="Seed of everything random.")] = 0,
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
        config=config,
        layers=layers,
        exclude=exclude,
        family=family,
        sub_vector_length=sub_vector_length,
        num_hashes=num_hashes,
        scope=scope,
        layout=layout,
        lowering=lowering,
        capacity=capacity,
        metric=metric,
        table=table,
        force=force,
        seed=seed,
        shapes=parse_shapes(shape or []),
    )
    from reuse_compiler.compiler import compile_file  # late: onnx takes longer to import than --help should

    if report is not None:
        _check_report(report, model, output, overwrite)

    console = stderr_console()
    with logging_to(console, log_level), ProgressBars(console) as progress:
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
    _finish(result, report, overwrite)


def _check_report(report: Path, model: Path, output: Path | None, overwrite: bool) -> None:
    """Refuses an impossible place for the report before any work is done."""
    from reuse_compiler.compiler import default_output
    from reuse_compiler.graph.save import check_output

    if report.resolve() in {model.resolve(), (output or default_output(model)).resolve()}:
        raise ConfigError(f"the report {report} would replace the model: give another name with --report")
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
