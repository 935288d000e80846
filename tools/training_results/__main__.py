"""Measures training with reuse for docs/results.

python -m tools.training_results                           # the page, from the JSON files that are there
python -m tools.training_results layers                    # time per step by layer
python -m tools.training_results strategies --runs DIR     # from the logs of models.train in DIR/none*, s1*, s2*, s3*
python -m tools.training_results tune cifar_vgg            # as is, reconstructed, tuned; cifar_vgg_static: static
python -m tools.training_results export                    # trained with strategy 2, compiled, the same accuracy
python -m tools.training_results gpu                       # on a GPU: by layer; VGG-19, none against strategy 2
"""

from __future__ import annotations

import csv
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from models.training_log import CSV_NAME, JSON_NAME
from reuse_compiler.benchmark.report import describe_machine
from reuse_compiler.cli.command import Command, CommandGroup, run_program
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.flags import Flag
from reuse_compiler.options import Threads
from reuse_compiler.reports.json_file import write_report
from tools.training_results.page import write_page
from tools.training_results.results import Device, LayerTimes, Result, Strategies, result_path

app = typer.Typer(cls=CommandGroup, add_completion=False)
Output = Annotated[Path, Flag("Folder of the results.", "-o", metavar="DIR")]
Epochs = Annotated[int, Field(ge=1), Flag("Epochs of each training.")]
FOLDER = Path("docs/results")
RUNS = ("none", "s1", "s2", "s3")


@app.callback(invoke_without_command=True)
def page(context: typer.Context) -> None:
    """Write the page."""
    if context.invoked_subcommand is None:
        print(write_page(FOLDER))


@app.command(cls=Command)
@with_flags
def layers(output: Output = FOLDER, threads: Threads = 1) -> None:
    """Time per step of ReuseConv2d beside nn.Conv2d, and of whole steps."""
    import torch

    torch.set_num_threads(threads)
    _write(_layer_times("cpu", threads), output, "layers")


def _layer_times(device: Device, threads: int) -> LayerTimes:
    from tools.training_results.layers import ROUNDS, measure_layers
    from tools.training_results.steps import measure_steps

    return LayerTimes(
        command=_command(),
        machine=describe_machine(),
        threads=threads,
        rounds=ROUNDS[device],
        device=device,
        layers=measure_layers(device),
        steps=measure_steps(device),
    )


@app.command(cls=Command)
@with_flags
def strategies(
    runs: Annotated[Path, Flag("Folder of the runs' logs.", metavar="DIR")],
    network: Annotated[str, Flag("What was trained.", metavar="NAME")] = "cifarnet",
    output: Output = FOLDER,
) -> None:
    """Put the logs of models.train together; folders of one strategy (s1, s1-b) are its runs with several seeds."""
    found = {}
    for name in RUNS:
        logs = [
            json.loads((own / JSON_NAME).read_text(encoding="utf-8")) | {"curve": curve(own / CSV_NAME)}
            for own in sorted(runs.glob(f"{name}*"))
            if own.is_dir()
        ]
        if logs:
            found[name] = [log | {"command": without_places(log["command"])} for log in logs]
    if "none" not in found:
        sys.exit(f"error: {runs} has no none/training.json: run models.train with --log {runs}/none first")
    result = Strategies(command=_command(), machine=describe_machine(), network=network, runs=found)
    _write(result, output, f"strategies_{network}")


@app.command(cls=Command)
@with_flags
def tune(
    network: Annotated[str, typer.Argument()],
    output: Output = FOLDER,
    threads: Threads = 1,
    steps: Annotated[int | None, Field(ge=1), Flag("Instead of the network's own number.")] = None,
    models: Annotated[Path | None, Flag("Keep the exported and the compiled model here.", metavar="DIR")] = None,
) -> None:
    """Tune a network and measure it on held-out data."""
    from tools.training_results.tuning import TASKS, measure_tuning

    if network not in TASKS:
        sys.exit(f"error: no network {network}; there are {', '.join(TASKS)}")
    with working() as progress:
        result = measure_tuning(_command(), network, threads, steps, models, progress)
    _write(result, output, f"tune_{network}")


@app.command(cls=Command)
@with_flags
def export(
    network: Annotated[str, Flag("What is trained.", metavar="NAME")] = "cifarnet",
    images: Annotated[int, Field(ge=200), Flag("Images to train with.")] = 10_000,
    epochs: Epochs = 2,
    output: Output = FOLDER,
    threads: Threads = 1,
) -> None:
    """Train with strategy 2, export, compile, compare."""
    from tools.training_results.exporting import measure_export

    _write(measure_export(_command(), network, images, epochs, threads), output, "export")


@app.command(cls=Command)
@with_flags
def gpu(output: Output = FOLDER, epochs: Epochs = 4) -> None:
    """On a GPU, in float32: time per step by layer; VGG-19 on CIFAR-10 without reuse and with strategy 2."""
    from tools.training_results.gpu import measure_gpu, missing

    if reason := missing():
        sys.exit(f"error: {reason}")
    _write(_layer_times("cuda", 1), output, "layers_gpu")
    _write(measure_gpu(_command(), epochs), output, "gpu")


def curve(path: Path) -> list[tuple[float, float]]:
    """Returns seconds of training and the loss of the steps before, from a log of models.train."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(float(row["seconds"]), float(row["loss"])) for row in csv.DictReader(file) if row["loss"]]


def without_places(command: str) -> str:
    """Returns a command without where it read and wrote: that belongs to one machine."""
    words = iter(shlex.split(command))
    kept: list[str] = []
    for word in words:
        if word in ("-o", "--output", "--log", "--data", "--runs", "--models"):
            next(words, None)
        else:
            kept.append(word)
    return shlex.join(kept)


def _command() -> str:
    return without_places(shlex.join(["python", "-m", "tools.training_results", *sys.argv[1:]]))


def _write(result: Result, output: Path, question: str) -> None:
    output.mkdir(parents=True, exist_ok=True)
    write_report(result, result_path(output, question), overwrite=True)
    print(write_page(output))


if __name__ == "__main__":
    run_program(app, "python -m tools.training_results")
