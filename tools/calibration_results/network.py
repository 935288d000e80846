"""All that is done for one network, if need be in a process of its own: data, calibrations, comparison, goals."""

from __future__ import annotations

import json
import multiprocessing
import resource
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import onnx
from pydantic import BaseModel, ConfigDict, Field

from models import packaged
from reuse_compiler.benchmark.report import describe_machine
from reuse_compiler.calibration.batch import with_batch
from reuse_compiler.calibration.int8 import quantise_on, spread
from reuse_compiler.calibration.metrics import make_metric, model_outputs
from reuse_compiler.calibration.options import BudgetName
from reuse_compiler.calibration.samples import Samples, open_samples
from reuse_compiler.cli.progress import working
from reuse_compiler.errors import ReuseError
from reuse_compiler.flags import Flag
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reports.json_file import write_report
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.verification.inputs import model_inputs
from tools.calibration_results.calibrations import (
    BYTES_PER_MAXRSS,
    CommandError,
    calibrate,
    configuration_path,
    earlier,
    int8_path,
    variants,
)
from tools.calibration_results.measure import INT8, ORIGINAL, THREADS, compare, rounds_of
from tools.calibration_results.networks import NETWORKS, Goal, Network
from tools.calibration_results.prepare import DataFiles, Prepared, prepare
from tools.calibration_results.results import CalibrationRun, NetworkResult, Reached, VariantResult, result_path

JUDGED = "learned"
"""The variant that should reach the network's goal."""


class Request(BaseModel):
    """What the user of the tool asks for."""

    model_config = ConfigDict(frozen=True)

    budget: Annotated[BudgetName, Flag("Budget of the calibration `learned`.")] = "default"
    reconstruct: Annotated[bool, Flag("Also calibrate with --reconstruct statistics and none.")] = False
    scopes: Annotated[bool, Flag("Also calibrate with --scope batch and static, each apart.")] = False
    on_int8: Annotated[bool, Flag("Also calibrate onnxruntime's int8 model, beside the original.")] = False
    work: Annotated[
        Path, Flag("Folder of models, data and configurations, one folder for each network.", metavar="DIR")
    ] = Path("build/calibration")
    calibrated: Annotated[bool, Flag("Take the calibrations and int8 models that are in the work folder already.")] = (
        False
    )
    limit: Annotated[int | None, Field(ge=1), Flag("Use so many pictures of each kind only, to try this out.")] = None

    def command(self, network: str) -> str:
        """Returns the command line."""
        words = ["python", "-m", "tools.calibration_results", network, "--budget", self.budget]
        words += ["--reconstruct"] if self.reconstruct else []
        words += ["--scopes"] if self.scopes else []
        words += ["--on-int8"] if self.on_int8 else []
        words += [] if self.limit is None else ["--limit", str(self.limit)]
        return shlex.join(words)


def measure_network(network: Network, request: Request, progress: ProgressCallback = silent) -> NetworkResult:
    """Does all of it. Raises a ReuseError, or one of LOAD_ERRORS of `models.packaged`, that says what is missing."""
    progress(f"writing the data of {network.name}", 0, 0)
    files = prepare(network, request.work / network.name, request.limit)
    original = onnx.load(files.model)
    calibration = _open(files.calibration, original, network.batch)
    ranges, int8 = spread(calibration), int8_path(files)
    if not request.calibrated:
        progress(f"quantising {network.name}", 0, 0)
        _quantise_apart(files, network.batch)
    asked = variants(request.budget, request.reconstruct, request.scopes, request.on_int8)
    runs: list[CalibrationRun] = []
    models: dict[str, onnx.ModelProto | Path] = {ORIGINAL: files.model}
    settings = {}
    for variant in asked:
        progress(f"calibrating {network.name}, {variant.name}", 0, 0)
        run, model = earlier(files, variant) if request.calibrated else calibrate(network, files, variant)
        runs.append(run)
        models[variant.name] = model
        settings[variant.name] = ReuseConfig.load(configuration_path(files, variant)).layers
    held_out = _open(files.held_out, original, network.batch)
    int8_form, int8_forms_ms = json.loads(int8.with_suffix(".json").read_text(encoding="utf-8"))
    models = {ORIGINAL: models[ORIGINAL], INT8: int8} | models
    metric = make_metric(network.metric, model_outputs(original), held_out.has_labels)
    results = compare(models, settings, held_out, metric, progress)
    return NetworkResult(
        network=network.name,
        title=network.title,
        command=request.command(network.name),
        calibrated_on=f"{files.calibration.words} ({calibration.description})",
        held_out=f"{files.held_out.words} ({held_out.description})",
        held_out_digest=held_out.digest(),
        limit=request.limit,
        metric=metric.name,
        threads=THREADS,
        rounds=rounds_of(held_out),
        variants=results,
        int8_form=int8_form,
        int8_forms_ms=int8_forms_ms,
        int8_runs=len(ranges),
        calibrations=runs,
        goals=list(reached(network.goal, metric.name, results, runs)),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_MAXRSS,
        machine=describe_machine(),
    )


def _quantise_apart(files: Prepared, batch: int) -> None:
    """Quantises in a process of its own: what it takes would count as memory of the calibrations begun after it."""
    process = multiprocessing.get_context("spawn").Process(target=_quantise, args=(files, batch))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise CommandError(f"quantising {files.model} to int8 ended with code {process.exitcode}")


def _quantise(files: Prepared, batch: int) -> None:
    """Writes the fastest int8 form of the model, and beside it that form's name and the times of all."""
    original, path = onnx.load(files.model), int8_path(files)
    with working() as progress:
        found = quantise_on(original, spread(_open(files.calibration, original, batch)), THREADS, progress)
    onnx.save(found.model, path)
    path.with_suffix(".json").write_text(json.dumps([found.form, dict(found.forms_ms)]), encoding="utf-8")


def reached(
    goal: Goal, metric: str, results: Sequence[VariantResult], runs: Sequence[CalibrationRun]
) -> Iterator[Reached]:
    """Compares the judged variant with what its network should reach."""
    judged = next(result for result in results if result.name == JUDGED)
    if goal.largest_drop is not None:
        words = f"at most {goal.largest_drop:g} of {metric} lost"
        yield Reached(goal=words, reached=-judged.change <= goal.largest_drop)
    if goal.least_value is not None:
        yield Reached(goal=f"{metric} at least {goal.least_value:g}", reached=judged.metric >= goal.least_value)
    if goal.least_speedup is not None:
        words = f"at least {goal.least_speedup:g} times as fast as the original"
        yield Reached(goal=words, reached=judged.speedup >= goal.least_speedup)
    if goal.dense is not None:
        report = next(run.report for run in runs if run.variant == JUDGED)
        dense = {layer.name for layer in report.layers if layer.decision == "dense"}
        words = f"reuse in all convolutions but {', '.join(sorted(goal.dense))}"
        yield Reached(goal=words, reached=dense <= goal.dense)


def _open(files: DataFiles, model: onnx.ModelProto, batch: int) -> Samples:
    specs = model_inputs(model)
    shapes = with_batch({}, batch, specs) if batch > 1 else {}
    return open_samples(files.inputs, specs, shapes, files.labels)


def measure_apart(name: str, request: Request, output: Path | None) -> int | None:
    """Writes the result of a network into the folder, or only its data if there is none; returns the exit code.

    The network is measured in another process, so that the memory that an earlier one took does not count for it.
    """
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(name, request, output))
    process.start()
    process.join()
    return process.exitcode


def _measure(name: str, request: Request, output: Path | None) -> None:
    network = NETWORKS[name]
    try:
        if output is None:
            prepare(network, request.work / name, request.limit)
            return
        with working() as progress:
            result = measure_network(network, request, progress)
        write_report(result, result_path(output, name), overwrite=True)
    except (ReuseError, *packaged.LOAD_ERRORS) as error:
        sys.exit(f"error: {name}: {error}")
