"""The use case behind `reuse-compile --calibration-data`: calibrate a model, then compile it with what was found."""

from __future__ import annotations

from pathlib import Path

from reuse_compiler.calibration.calibrate import calibrate_file
from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.calibration.report import CalibrationReport
from reuse_compiler.calibration.samples import is_reader
from reuse_compiler.compiler import check_result_path, compile_file, configuration_of, default_output
from reuse_compiler.errors import ConfigError
from reuse_compiler.graph import load_model
from reuse_compiler.options import CompileOptions
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.report import ModelReport
from reuse_compiler.verification.inputs import model_inputs
from reuse_compiler.verification.sources import open_data


def calibrate_and_compile(
    model_path: Path,
    data: str,
    output_path: Path | None = None,
    options: CompileOptions | None = None,
    calibration: CalibrationOptions | None = None,
    *,
    labels: Path | None = None,
    overwrite: bool = False,
    verify: bool = True,
    verify_data: Path | None = None,
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
    _check_options(options)
    output_path = output_path or default_output(model_path)
    check_result_path(model_path, output_path, overwrite)
    if verify and verify_data is not None:
        open_data(verify_data, model_inputs(load_model(model_path)), options.shapes)
    config = configuration_of(output_path)
    found = calibrate_file(
        model_path,
        data,
        config,
        _calibration_options(calibration or CalibrationOptions(threads=threads), options),
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
        verify_data=verify_data or (None if is_reader(data) else Path(data)),
        threads=threads,
        progress=progress,
    )
    return found, report


def _calibration_options(calibration: CalibrationOptions, options: CompileOptions) -> CalibrationOptions:
    """The calibration's options with what both have, as it stands in the compiler's."""
    names = ("layers", "exclude", "family", "scope", "seed", "shapes")
    given = {name: getattr(options, name) for name in names}
    return calibration.model_copy(update={name: value for name, value in given.items() if value is not None})


def _check_options(options: CompileOptions) -> None:
    """Raises ConfigError for options that say what the calibration is to find out."""
    decided = {
        "--config": options.config,
        "-L": options.sub_vector_length,
        "-H": options.num_hashes,
        "--layout": None if options.layout == "auto" else options.layout,
        "--capacity": options.capacity,
        "--metric": options.metric,
        "--table": options.table,
        "--lowering": None if options.lowering == "fused" else options.lowering,
        "--force": options.force or None,
    }
    given = [flag for flag, value in decided.items() if value is not None]
    if given:
        raise ConfigError(
            f"{' and '.join(given)} cannot be used with --calibration-data, which finds out what is best; "
            "reuse-calibrate says more, and reuse-compile --config takes its result"
        )
