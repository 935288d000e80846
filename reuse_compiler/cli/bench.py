"""The command `reuse-bench`: one convolution, or two models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from reuse_compiler.benchmark.case import BenchFamily, BenchScope, Order, Pads, Pair, Shape, make_case
from reuse_compiler.cli.command import (
    Command,
    CommandGroup,
    LogLevel,
    run_program,
    stdout_console,
)
from reuse_compiler.cli.flags import Logging
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.flags import Flag
from reuse_compiler.options import CustomOpLibraries, Seed, Shapes, Threads
from reuse_compiler.paths import real_path
from reuse_compiler.reuse.config import TableType
from reuse_compiler.runtime import ProviderName

if TYPE_CHECKING:
    from reuse_compiler.benchmark.report import ModelComparison

HELP = """\
Measure reuse beside onnxruntime without it.

[bold]For example[/bold]

  reuse-bench model net.onnx net.reuse.onnx --data samples.npz
      two models, layer by layer

  reuse-bench worst net.onnx net.reuse.onnx --data samples.npz
      and if nothing in the input repeated itself?

  reuse-bench conv --input 1x64x56x56 --weight 64x64x3x3 -L 16 \\
      --remaining-ratio 0.1
      one convolution of those sizes

Every time is a median of runs that take turns with those of onnxruntime's own Conv (or of the other model), with \
the same number of threads, and every speed-up stands beside its error.
"""

app = typer.Typer(
    cls=CommandGroup,
    help=HELP,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Repeats = Annotated[int, Field(ge=1), Flag("Timed runs of each form; the median is reported.")]
JsonFile = Annotated[
    Path | None, Flag("Write everything measured to this file, replacing it.", name="--json", metavar="FILE")
]
OnProvider = Annotated[ProviderName, Flag("Where everything runs that is timed.")]
Tf32 = Annotated[bool, Flag("With --provider cuda: whether products may be rounded to TF32.")]


def parse_sizes(text: str, counts: tuple[int, ...], example: str, least: int = 1) -> tuple[int, ...]:
    """Reads sizes separated by x (or commas), as in 1x256x56x56, of which there must be one of `counts` many."""
    parts = re.split("[x,]", text)
    if len(parts) not in counts or not all(part.isdecimal() for part in parts) or min(map(int, parts)) < least:
        raise ValueError(f"'{text}' is not of the form {example}")
    return tuple(map(int, parts))


def parse_pair(text: str) -> tuple[int, int]:
    """Reads one number for both axes, or height x width."""
    sizes = parse_sizes(text, (1, 2), "n or HxW, as in 2 or 2x1")
    return sizes[0], sizes[-1]


def parse_pads(text: str) -> tuple[int, ...]:
    """Reads padding for all sides, height x width, or begin h x begin w x end h x end w as in ONNX."""
    example = "n, HxW, or the begin of both axes and the end of both, as in 1 or 0x0x1x1"
    sizes = parse_sizes(text, (1, 2, 4), example, least=0)
    return sizes * (4 // len(sizes))


def _four(name: str, metavar: str, help_text: str, example: str) -> Flag:
    """Returns the flag of a tensor's four sizes."""
    parse = partial(parse_sizes, counts=(4,), example=f"{metavar}, as in {example}")
    return Flag(f"{help_text}, as in {example}.", name=name, metavar=metavar, parse=parse)


class Case(BaseModel):
    """What `make_case` takes."""

    model_config = ConfigDict(allow_inf_nan=False)

    input_shape: Annotated[Shape, _four("--input", "NxCxHxW", "Shape of the layer's input", "1x256x56x56")]
    weight_shape: Annotated[
        Shape, _four("--weight", "MxCxHxW", "Shape of its weights (C: channels of a group)", "256x256x3x3")
    ]
    sub_vector_length: Annotated[int, Field(ge=1), Flag("Elements of a neuron vector.", "-L", name="--L")]
    remaining_ratio: Annotated[
        float, Flag("r_c: distinct vectors of a block of the input per row of the unfolded input.", metavar="r")
    ]
    num_hashes: Annotated[
        int | None,
        Field(ge=1),
        Flag("H: comparisons or hyperplanes per vector.", name="--bits", default="enough to tell all vectors apart"),
    ] = None
    strides: Annotated[Pair, Flag("Strides.", name="--stride", metavar="n|HxW", default="1", parse=parse_pair)] = (1, 1)
    pads: Annotated[
        Pads | None,
        Flag(
            "Padding.",
            name="--pad",
            metavar="n|HxW|...",
            default="output as large as the input at stride 1",
            parse=parse_pads,
        ),
    ] = None
    dilations: Annotated[
        Pair, Flag("Dilations.", name="--dilation", metavar="n|HxW", default="1", parse=parse_pair)
    ] = (1, 1)
    group: Annotated[int, Field(ge=1), Flag("Groups.")] = 1
    family: Annotated[BenchFamily, Flag("How vectors are hashed; learned: by trees fitted to this input.")] = "learned"
    layout: Annotated[
        Literal["auto", "channel", "patch"],
        Flag("What a vector is; auto: channel where L divides the channels, else patch."),
    ] = "auto"
    order: Annotated[Order, Flag("Whether equal vectors are neighbours, as in images, or shuffled.")] = "local"
    table: Annotated[TableType, Flag("Entries of the fused form's tables.")] = "float"
    scope: Annotated[
        BenchScope,
        Flag("Whose clusters: the batch's, those kept from the runs before, or fixed ones, which the input's are."),
    ] = "batch"
    seed: Seed = 0


@app.command(cls=Command)
@with_flags
def conv(
    case: Case,
    staged: Annotated[bool, Flag("Also time the staged form (float tables only).")] = True,
    int8: Annotated[bool, Flag("Also time onnxruntime's statically quantised Conv.")] = False,
    quantised: Annotated[
        bool,
        Flag(
            "Measure bytes instead, beside onnxruntime's QLinearConv: reuse that equals it (family exact), with --bits "
            "clusters of the batch, or with --scope static fixed ones."
        ),
    ] = False,
    provider: OnProvider = "cpu",
    tf32: Tf32 = True,
    threads: Threads = 1,
    repeats: Repeats = 9,
    json_file: JsonFile = None,
    log_level: Logging = "warning",
) -> None:
    """Measure one convolution: dense, staged and fused, on an input of known redundancy.

    The dense form is onnxruntime's own Conv (with bias and ReLU, like the others). Beside the times stand the time of
    each stage, the errors and the floor: operations and bytes over the peaks of this machine.
    """
    if int8 and provider == "cuda":
        raise typer.BadParameter("onnxruntime's quantised Conv is measured on the CPU only", param_hint="'--int8'")
    if quantised and (int8 or provider == "cuda"):
        raise typer.BadParameter("bytes are measured alone, and on the CPU only", param_hint="'--quantised'")
    from reuse_compiler.benchmark.conv import Circumstances, measure_conv  # late: onnx takes longer to import than help
    from reuse_compiler.benchmark.printing import print_conv
    from reuse_compiler.benchmark.quantised_conv import measure_quantised

    checked = make_case(**dict(case))
    check_json(json_file)
    with working(log_level) as progress, _running_on(provider, tf32):
        if quantised:
            report = measure_quantised(checked, threads, repeats, progress)
        else:
            report = measure_conv(checked, Circumstances(threads, repeats, staged, int8), progress)
    write_json(report, json_file)
    print_conv(report, stdout_console())


class Comparison(BaseModel):
    """What two models are compared on, and how: what `compare_models` takes, and the libraries that they need."""

    data: Annotated[
        Path | None,
        Flag(
            "Inputs to measure on, as for `reuse-compile --verify-data`: .npz, .npy, a folder of those, or of photos "
            "with a preprocessing.json.",
            metavar="PATH",
            default="random numbers",
        ),
    ] = None
    shapes: Shapes = Field(default_factory=dict)
    custom_op_libraries: CustomOpLibraries = Field(default_factory=list)
    threads: Threads = 1
    repeats: Repeats = 9
    seed: Seed = 0

    def measure(
        self,
        first: Path,
        second: Path,
        json_file: Path | None,
        log_level: LogLevel,
        noises: Sequence[float],
        stream: bool = False,
    ) -> list[ModelComparison]:
        """Compares two models with each noise."""
        from reuse_compiler.benchmark.models import compare_models
        from reuse_compiler.runtime import with_libraries

        options = dict(self)
        libraries = options.pop("custom_op_libraries")
        check_json(json_file, first, second, data=self.data, libraries=libraries)
        with working(log_level) as progress, with_libraries(libraries):
            return [
                compare_models(first, second, noise=noise, stream=stream, progress=progress, **options)
                for noise in noises
            ]


@app.command(cls=Command)
@with_flags
def model(
    first: Annotated[Path, typer.Argument(metavar="A.onnx", help="The model to compare with.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B.onnx", help="The other one.", show_default=False)],
    comparison: Comparison,
    stream: Annotated[
        bool,
        Flag("The data are frames of a stream: each is run once, in their order, and frames per second are told."),
    ] = False,
    provider: OnProvider = "cpu",
    tf32: Tf32 = True,
    json_file: JsonFile = None,
    log_level: Logging = "warning",
) -> None:
    """Compare two models on the same data: errors, times, and the time of every layer.

    The models must take the same inputs; outputs of the same name are compared.
    """
    from reuse_compiler.benchmark.printing import print_comparison

    with _running_on(provider, tf32):
        [report] = comparison.measure(first, second, json_file, log_level, [0.0], stream)
    write_json(report, json_file)
    print_comparison(report, stdout_console())


@app.command(cls=Command)
@with_flags
def worst(
    first: Annotated[Path, typer.Argument(metavar="A.onnx", help="The original.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B.onnx", help="The compiled model.", show_default=False)],
    comparison: Comparison,
    noise: Annotated[
        float, Field(gt=0.0, le=1.0), Flag("What is added so that nothing repeats, in standard deviations of the data.")
    ] = 1e-3,
    json_file: JsonFile = None,
    log_level: Logging = "warning",
) -> None:
    """Measure what a compiled model costs on inputs that do not repeat, beside those that it was made for.

    Reuse is decided when a model is compiled. Where the vectors of a run's input are all different, it pays for hashing
    and gains nothing: this says how much.
    """
    from reuse_compiler.benchmark.printing import print_worst
    from reuse_compiler.benchmark.report import WorstCase

    given, noisy = comparison.measure(first, second, json_file, log_level, [0.0, noise])
    report = WorstCase(as_given=given, without_repeats=noisy)
    write_json(report, json_file)
    print_worst(report, stdout_console())


def _running_on(provider: ProviderName, tf32: bool) -> AbstractContextManager[None]:
    from reuse_compiler.runtime import Provider, running_on

    return running_on(Provider(provider, tf32=tf32))


def check_json(path: Path | None, *models: Path, data: Path | None = None, libraries: Sequence[Path] = ()) -> None:
    """Refuses an impossible place for the report before any work is done."""
    if path is None:
        return
    from reuse_compiler.errors import ConfigError
    from reuse_compiler.graph import load_model
    from reuse_compiler.graph.load import files_of
    from reuse_compiler.graph.save import check_output, refuse_read
    from reuse_compiler.verification.sources import data_files

    if real_path(path) in {real_path(each) for each in models}:
        raise ConfigError(f"the report {path} would replace a model: give another name with --json")
    check_output(path, True)
    if path.exists():
        read = {file for each in models for file in files_of(load_model(each), each)} | set(libraries)
        refuse_read(path, read | (data_files(data) if data is not None else set()))


def write_json(report: Any, path: Path | None) -> None:
    """Writes a report where one is wanted, replacing it."""
    if path is not None:
        from reuse_compiler.reports.json_file import write_report

        write_report(report, path, overwrite=True)


def main() -> None:
    """Entry point of the program."""
    run_program(app, "reuse-bench")


if __name__ == "__main__":
    main()
