"""The use case behind `reuse-compile --calibration-data`: calibrate a model, then compile it with what was found."""

from __future__ import annotations

from pathlib import Path

from reuse_compiler.calibration.calibrate import calibrate_file, files_calibrated_on
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.calibration.samples import is_reader
from reuse_compiler.compiler import check_result_path, compile_file, default_output, files_read
from reuse_compiler.configuration import configuration_of, parameters_path
from reuse_compiler.flags import refuse
from reuse_compiler.graph import load_model
from reuse_compiler.graph.save import refuse_read
from reuse_compiler.options import FOUND_OUT, CompileOptions
from reuse_compiler.paths import AnyPath
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.report import ModelReport
from reuse_compiler.verification.inputs import model_inputs
from reuse_compiler.verification.sources import open_data


def calibrate_and_compile(
    model_path: AnyPath,
    data: AnyPath,
    output_path: AnyPath | None = None,
    options: CompileOptions | None = None,
    calibration: CalibrationOptions | None = None,
    *,
    labels: AnyPath | None = None,
    overwrite: bool = False,
    verify: bool = True,
    verify_data: AnyPath | None = None,
    threads: int = 1,
    progress: ProgressCallback = silent,
) -> tuple[CalibrationReport, ModelReport]:
    """Calibrates a model file on `data`, writes the configuration beside the result, and compiles with it.

    Layers, family, scope, seed and shapes are those of `options`, also for the calibration; what it finds out itself
    must not be set there (ConfigError). The result is verified on the same data unless `verify_data` names other; a
    Python reader is not read again, random numbers take its place. Raises what `calibrate_file` and `compile_file`
    raise; whatever of that can be known before is raised before the calibration.
    """
    options = options or CompileOptions()
    refuse(options, FOUND_OUT)
    output_path = Path(output_path or default_output(model_path))
    check_result_path(model_path, output_path, overwrite)
    model, config = load_model(model_path), configuration_of(output_path)
    calibration = _calibration_options(calibration or CalibrationOptions(threads=threads), options)
    read = files_read(model, model_path, options, verify_data) | files_calibrated_on(data, labels, calibration.metric)
    for place in (output_path, config, parameters_path(config)):
        refuse_read(place, read)
    if verify and verify_data is not None:
        open_data(verify_data, model_inputs(model), options.shapes)
    found = calibrate_file(
        model_path,
        data,
        config,
        calibration,
        labels=labels,
        overwrite=overwrite,
        progress=progress,
    )
    report = compile_file(
        model_path,
        output_path,
        options.model_copy(update={"config": config, "family": None, "scope": None}),
        overwrite=overwrite,
        verify=verify,
        verify_data=verify_data or (None if is_reader(data) else data),
        threads=threads,
        progress=progress,
    )
    return found, report


def _calibration_options(calibration: CalibrationOptions, options: CompileOptions) -> CalibrationOptions:
    """The calibration's options with what both have, as it stands in the compiler's."""
    given = {name: getattr(options, name, None) for name in CalibrationOptions.model_fields}
    return calibration.model_copy(update={name: value for name, value in given.items() if value is not None})
