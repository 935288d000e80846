"""The command `reuse-bench`: one convolution, or two models."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from reuse_compiler.cli.command import (
    Command,
    CommandGroup,
    end_on_sigterm,
    logging_to,
    stderr_console,
    stdout_console,
)
from reuse_compiler.cli.flags import parse_shapes
from reuse_compiler.cli.progress import ProgressBars

HELP = (
    "Measure reuse: every time is a median of runs that take turns with those of onnxruntime's own Conv (or of the "
    "other model), with the same number of threads, and every speed-up stands beside its error."
)

app = typer.Typer(
    cls=CommandGroup,
    help=HELP,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Threads = Annotated[int, typer.Option(metavar="n", min=1, help="Threads of everything that is timed.")]
Repeats = Annotated[int, typer.Option(metavar="n", min=1, help="Timed runs of each form; the median is reported.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write everything measured to this file, replacing it.")
]
ProviderChoice = Annotated[
    Literal["cpu", "cuda"], typer.Option("--provider", help="Where everything runs that is timed.")
]
Tf32 = Annotated[
    bool, typer.Option("--tf32/--no-tf32", help="With --provider cuda: whether products may be rounded to TF32.")
]
Seed = Annotated[int, typer.Option(metavar="n", min=0, help="Seed of everything random.")]


def parse_sizes(text: str, flag: str, counts: tuple[int, ...], example: str, least: int = 1) -> tuple[int, ...]:
    """Reads sizes separated by x (or commas), as in 1x256x56x56, of which there must be one of `counts` many."""
    parts = re.split("[x,]", text)
    if len(parts) not in counts or not all(part.isdecimal() for part in parts) or min(map(int, parts)) < least:
        raise typer.BadParameter(f"'{text}' is not of the form {example}", param_hint=f"'{flag}'")
    return tuple(map(int, parts))


def parse_shape(text: str, flag: str, example: str) -> tuple[int, int, int, int]:
    """Reads the four sizes of a tensor."""
    a, b, c, d = parse_sizes(text, flag, (4,), example)
    return a, b, c, d


def parse_pair(text: str, flag: str) -> tuple[int, int]:
    """Reads one number for both axes, or height x width."""
    sizes = parse_sizes(text, flag, (1, 2), "n or HxW, as in 2 or 2x1")
    return sizes[0], sizes[-1]


def parse_pads(text: str) -> tuple[int, int, int, int]:
    """Reads padding for all sides, height x width, or begin h x begin w x end h x end w as in ONNX."""
    example = "n, HxW, or the begin of both axes and the end of both, as in 1 or 0x0x1x1"
    sizes = parse_sizes(text, "--pad", (1, 2, 4), example, least=0)
    top, left, bottom, right = sizes * (4 // len(sizes))
    return top, left, bottom, right


@app.command(cls=Command)
def conv(
    input_shape: Annotated[
        str, typer.Option("--input", metavar="NxCxHxW", help="Shape of the layer's input, as in 1x256x56x56.")
    ],
    weight: Annotated[
        str, typer.Option(metavar="MxCxHxW", help="Shape of its weights, as in 256x256x3x3 (C: channels of a group).")
    ],
    sub_vector_length: Annotated[
        int, typer.Option("--L", "-L", metavar="n", min=1, help="Elements of a neuron vector.")
    ],
    remaining_ratio: Annotated[
        float,
        typer.Option(metavar="r", help="r_c: distinct vectors of a block of the input per row of the unfolded input."),
    ],
    bits: Annotated[
        int | None,
        typer.Option(
            metavar="n",
            min=1,
            help="H: comparisons or hyperplanes per vector. [dim]default: enough to tell all vectors apart[/dim]",
        ),
    ] = None,
    stride: Annotated[str, typer.Option(metavar="n|HxW", help="Strides.")] = "1",
    pad: Annotated[
        str | None,
        typer.Option(metavar="n|HxW|...", help="Padding. [dim]default: output as large as the input at stride 1[/dim]"),
    ] = None,
    dilation: Annotated[str, typer.Option(metavar="n|HxW", help="Dilations.")] = "1",
    group: Annotated[int, typer.Option(metavar="n", min=1, help="Groups.")] = 1,
    family: Annotated[
        Literal["learned", "sign", "exact"],
        typer.Option(help="How vectors are hashed; learned: by trees fitted to this input."),
    ] = "learned",
    layout: Annotated[
        Literal["auto", "channel", "patch"],
        typer.Option(help="What a vector is; auto: channel where L divides the channels, else patch."),
    ] = "auto",
    order: Annotated[
        Literal["local", "random"],
        typer.Option(help="Whether equal vectors are neighbours, as in images, or shuffled."),
    ] = "local",
    table: Annotated[Literal["float", "int8"], typer.Option(help="Entries of the fused form's tables.")] = "float",
    staged: Annotated[
        bool, typer.Option("--staged/--no-staged", help="Also time the staged form (float tables only).")
    ] = True,
    int8: Annotated[bool, typer.Option("--int8", help="Also time onnxruntime's statically quantised Conv.")] = False,
    provider: ProviderChoice = "cpu",
    tf32: Tf32 = True,
    threads: Threads = 1,
    repeats: Repeats = 9,
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Measure one convolution: dense, staged and fused, on an input of known redundancy.

    The dense form is onnxruntime's own Conv (with bias and ReLU, like the others). Beside the times stand the time of
    each stage, the errors and the floor: operations and bytes over the peaks of this machine.
    """
    shape = parse_shape(input_shape, "--input", "NxCxHxW, as in 1x256x56x56")
    weights = parse_shape(weight, "--weight", "MxCxHxW, as in 256x256x3x3")
    if int8 and provider == "cuda":
        raise typer.BadParameter("onnxruntime's quantised Conv is measured on the CPU only", param_hint="'--int8'")
    strides, dilations = parse_pair(stride, "--stride"), parse_pair(dilation, "--dilation")
    pads = None if pad is None else parse_pads(pad)
    from reuse_compiler.benchmark.case import make_case  # late: onnx takes longer to import than --help should
    from reuse_compiler.benchmark.conv import Circumstances, measure_conv
    from reuse_compiler.benchmark.printing import print_conv

    case = make_case(
        input_shape=shape,
        weight_shape=weights,
        sub_vector_length=sub_vector_length,
        remaining_ratio=remaining_ratio,
        num_hashes=bits,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=group,
        family=family,
        layout=layout,
        order=order,
        table=table,
        seed=seed,
    )
    check_json(json_file)
    console = stderr_console()
    with logging_to(console, "warning"), ProgressBars(console) as progress, _running_on(provider, tf32):
        report = measure_conv(case, Circumstances(threads, repeats, staged, int8), progress)
    write_json(report, json_file)
    print_conv(report, stdout_console())


@app.command(cls=Command)
def model(
    first: Annotated[Path, typer.Argument(metavar="A.onnx", help="The model to compare with.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B.onnx", help="The other one.", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Inputs to measure on, as for `reuse-compile --verify-data`: .npz, .npy, a folder of those, or of "
            "photos with a preprocessing.json. [dim]default: random numbers[/dim]",
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:SIZES", help="Sizes of a dynamic input, as in images:1,3,224,224; may be repeated."),
    ] = None,
    provider: ProviderChoice = "cpu",
    tf32: Tf32 = True,
    threads: Threads = 1,
    repeats: Repeats = 9,
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Compare two models on the same data: errors, times, and the time of every layer.

    The models must take the same inputs; outputs of the same name are compared.
    """
    shapes = parse_shapes(shape or [])
    from reuse_compiler.benchmark.models import compare_models
    from reuse_compiler.benchmark.printing import print_comparison

    check_json(json_file, first, second)
    console = stderr_console()
    with logging_to(console, "warning"), ProgressBars(console) as progress, _running_on(provider, tf32):
        report = compare_models(
            first, second, data=data, shapes=shapes, threads=threads, repeats=repeats, seed=seed, progress=progress
        )
    write_json(report, json_file)
    print_comparison(report, stdout_console())


def _running_on(provider: Literal["cpu", "cuda"], tf32: bool) -> AbstractContextManager[None]:
    from reuse_compiler.runtime import Provider, running_on

    return running_on(Provider(provider, tf32=tf32))


def check_json(path: Path | None, *models: Path) -> None:
    """Refuses an impossible place for the report before any work is done."""
    if path is None:
        return
    from reuse_compiler.errors import ConfigError
    from reuse_compiler.graph.save import check_output

    if path.resolve() in {each.resolve() for each in models}:
        raise ConfigError(f"the report {path} would replace a model: give another name with --json")
    check_output(path, overwrite=True)


def write_json(report: Any, path: Path | None) -> None:
    """Writes a report where one is wanted, replacing it."""
    if path is not None:
        from reuse_compiler.reports.json_file import write_report

        write_report(report, path, overwrite=True)


def main() -> None:
    """Entry point of the program."""
    end_on_sigterm()
    app(prog_name="reuse-bench")


if __name__ == "__main__":
    main()
