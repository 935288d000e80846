"""The use case behind `reuse-calibrate`: open model and data, calibrate, write configuration and report."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.calibration.calibration import Calibration
from reuse_compiler.calibration.candidates import check_scope
from reuse_compiler.calibration.hold import held_inputs
from reuse_compiler.calibration.layers import examine
from reuse_compiler.calibration.ledger import Ledger
from reuse_compiler.calibration.lines import layer_lines
from reuse_compiler.calibration.metric_kinds import PYTHON
from reuse_compiler.calibration.metrics import Metric, check_metric, check_wish, make_metric, model_outputs
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.pictures import cluster_pictures
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.calibration.samples import Samples, from_reader, is_reader, open_samples, split
from reuse_compiler.calibration.state import State, state_path
from reuse_compiler.calibration.user_code import function_file
from reuse_compiler.calibration.workers import Workers
from reuse_compiler.compiler import default_output
from reuse_compiler.configuration import configuration_of, parameters_path, write_configuration
from reuse_compiler.environment import versions
from reuse_compiler.errors import ConfigError, DataError, ModelError, OutputError
from reuse_compiler.graph import load_model
from reuse_compiler.graph.files import FileTransaction
from reuse_compiler.graph.load import files_of
from reuse_compiler.graph.save import check_output, refuse_read
from reuse_compiler.paths import AnyPath, are_same, real_path
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reports.calibration_page import write_html
from reuse_compiler.reports.json_file import write_report
from reuse_compiler.reports.page import check_extra
from reuse_compiler.runtime import Provider, running_on, with_libraries
from reuse_compiler.verification.inputs import InputSpec, model_inputs
from reuse_compiler.verification.sessions import ORIGINAL, open_session, run_session
from reuse_compiler.verification.sources import data_files

CALIBRATED = ("Conv", "QLinearConv")
"""The operators that are calibrated."""
REPORT_JSON, REPORT_HTML = "report.json", "report.html"


def calibrate_file(
    model_path: AnyPath,
    data: AnyPath | Any,
    output: AnyPath | None = None,
    options: CalibrationOptions | None = None,
    *,
    labels: AnyPath | NDArray[np.int64] | None = None,
    reference: AnyPath | None = None,
    report: AnyPath | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback = silent,
    command: str | None = None,
) -> CalibrationReport:
    """Calibrates a model file and writes the configuration that `reuse-compile --config` takes.

    `data` is what `open_samples` takes, or a reader with onnxruntime's CalibrationDataReader protocol. The accuracy
    budget is kept beside the `reference`, if there is one: the model that this one was made of. `report` is a folder
    for report.json and report.html; `command` is the command line that they name. With `resume` the work of an earlier
    run on the same models, data and options is taken up. Raises a ReuseError that says what to do, for all that
    can be known before the work before it; where no layer gains, a configuration without layers is written.
    """
    started = time.monotonic()
    ledger = progress = Ledger(progress)
    options = options or CalibrationOptions()
    output = Path(output or configuration_of(default_output(model_path)))
    report = None if report is None else Path(report)
    _check_places(model_path, output, report, overwrite)
    progress("reading the model", 0, 0)
    model = load_model(model_path)
    read = files_of(model, model_path) | files_calibrated_on(data, labels, options.metric)
    compared = None
    if reference is not None:
        compared = _reference(reference, model)
        read |= files_of(compared, reference)
    for place in _places(output, report):
        refuse_read(place, read | set(options.custom_op_libraries))
    if not any(node.op_type in CALIBRATED for node in model.graph.node) and not model.functions:
        raise ModelError(f"{model_path} has no Conv in its main graph, so there is nothing to calibrate")
    specs, outputs = model_inputs(model), model_outputs(model)
    metric = make_metric(options.metric, outputs, labels is not None)
    check_wish(metric, options.max_drop, options.at_least, options.drop_type)
    check_scope(options)
    if options.stream and options.provider != "cpu":
        raise ConfigError("--stream is for the CPU, whose kernels alone keep sums: leave --provider off")
    workers = Workers(options, output.parent)
    progress("reading the samples", 0, 0)
    samples = _open(data, specs, options, labels)
    parts = split(samples, options.holdout, options.seed, in_order=options.stream)
    options = options.model_copy(update={"shapes": _shapes(samples, specs) | options.shapes})
    if options.stream:
        held_inputs(model, options.shapes)  # before the long work, for what it has to object
    with running_on(Provider(options.provider)), with_libraries(options.custom_op_libraries):
        _try_metric(model, samples, metric)
        work = examine(model, options, samples[0].feed, output.parent)
        models = [model] if compared is None else [model, compared]
        state = State(state_path(models, samples.digest(), options), resume)
        outcome = Calibration(model, work, parts, metric, options, state, progress, workers, compared).run()
    progress("writing the result", 0, 0)
    streams = {"stream": True, "hold": outcome.hold} if options.stream else {}
    write_configuration(outcome.deployment.plan, options.seed, output, overwrite, **streams)
    pictures = cluster_pictures(work, outcome.deployment.plan, parts.holdout.first_feed) if report is not None else []
    found = CalibrationReport(
        model=os.fspath(model_path),
        reference=None if reference is None else os.fspath(reference),
        output=str(output),
        data=samples.description,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        hold=outcome.hold,
        target=outcome.target.value,
        layers=layer_lines(work, outcome),
        trials=outcome.trials,
        reconstruction={str(how): check for how, check in outcome.checks.items()},
        check=outcome.checks.get(outcome.way),
        tuning=outcome.tuning,
        int8=outcome.int8,
        pictures=pictures,
        seconds=time.monotonic() - started,
        ledger=ledger.seconds(),
        versions=versions(),
        options=options.model_dump(mode="json"),
        command=command,
    )
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        write_report(found, report / REPORT_JSON, overwrite)
        write_html(found, report / REPORT_HTML, overwrite)
    return found


def _check_places(model_path: AnyPath, output: Path, report: Path | None, overwrite: bool) -> None:
    """Refuses impossible places for results before any work is done."""
    configuration = _places(output, None)
    for path in configuration:
        if real_path(path) == real_path(model_path):
            raise ConfigError(f"the configuration {path} would replace the model: give another name with -o")
        check_output(path, overwrite)
    if report is None:
        return
    check_extra()
    _check_folder(report)
    for path in (report / REPORT_JSON, report / REPORT_HTML):
        if any(are_same(path, other) for other in configuration):
            raise ConfigError(f"the report {path} would replace the configuration: give another folder with --report")
        if report.is_dir():
            check_output(path, overwrite)


def _places(output: Path, report: Path | None) -> list[Path]:
    """Returns the files that are written."""
    reports = [report / name for name in (REPORT_JSON, REPORT_HTML)] if report is not None else []
    return [output, parameters_path(output), *reports]


def _check_folder(folder: Path) -> None:
    """Raises OutputError if `folder` is none, or cannot be made."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError(f"the report {folder} must be a folder, but it is a file")
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"the report's folder cannot be made: {folder} is a file")
    FileTransaction.check_folder(folder)


def _reference(path: AnyPath, model: onnx.ModelProto) -> onnx.ModelProto:
    """Reads the model to compare with; raises ModelError unless it takes and gives tensors of the same names."""
    reference = load_model(path)
    names = [
        ([spec.name for spec in model_inputs(own)], [output.name for output in model_outputs(own)])
        for own in (reference, model)
    ]
    for what, theirs, own in zip(("inputs", "outputs"), *names, strict=True):
        if theirs != own:
            raise ModelError(
                f"the reference {path} has the {what} {theirs}, and the model {own}: give the model that this one was "
                "made of, whose inputs and outputs have the same names"
            )
    return reference


def files_calibrated_on(data: AnyPath | Any, labels: AnyPath | Any, metric: str | None) -> set[Path]:
    """Returns the files beside the model that a calibration reads, which no result may replace."""
    files = {Path(labels)} if isinstance(labels, str | os.PathLike) else set()
    if isinstance(data, str | os.PathLike):
        files |= {function_file(os.fspath(data))} if is_reader(data) else data_files(data)
    if metric is not None and metric.startswith(PYTHON):
        files.add(function_file(metric.removeprefix(PYTHON)))
    return files


def _open(
    data: AnyPath | Any,
    specs: list[InputSpec],
    options: CalibrationOptions,
    labels: AnyPath | NDArray[np.int64] | None,
) -> Samples:
    if isinstance(data, str | os.PathLike):
        if labels is not None and not isinstance(labels, str | os.PathLike):
            raise DataError("labels of data in files must be in a file too")
        return open_samples(data, specs, options.shapes, labels)
    return from_reader(data, specs, labels)


def _shapes(samples: Samples, specs: list[InputSpec]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the dynamic inputs; raises DataError unless all runs have the same."""
    first, *others = samples.shapes()
    for number, shapes in enumerate(others, start=2):
        for name, shape in shapes.items():
            if shape != first[name]:
                raise DataError(
                    f"run {number} has an input '{name}' of shape {list(shape)}, the first one of "
                    f"{list(first[name])}: layers are measured at one size, so all runs must have the same: "
                    "resize them, or give those of one size"
                )
    return {spec.name: first[spec.name] for spec in specs if spec.is_dynamic}


def _try_metric(model: onnx.ModelProto, samples: Samples, metric: Metric) -> None:
    """Runs the original once, so that a model or a metric that fails does so at once."""
    session = open_session(model, 1, ORIGINAL, keeps_memory=False)
    names = [output.name for output in session.get_outputs()]
    sample = samples[0]
    values = run_session(session, names, sample.feed, ORIGINAL)
    check_metric(metric, dict(zip(names, values, strict=True)), sample.labels)
