"""The use case behind `reuse-compile`: read a model, lower it, verify the result, write it, report."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from reuse_compiler.environment import versions
from reuse_compiler.errors import ConfigError, VerificationError
from reuse_compiler.graph import load_model, save_model
from reuse_compiler.graph.load import files_of
from reuse_compiler.graph.save import check_output, refuse_read
from reuse_compiler.graph.tensors import data_bytes, tensors_of
from reuse_compiler.lossless import are_lossless, check_lossless
from reuse_compiler.options import CompileOptions
from reuse_compiler.passes.choose_parameters import Decision, choose_parameters, plan_of
from reuse_compiler.passes.hold_inputs import hold_inputs, holds_alone, image_axes
from reuse_compiler.passes.layer import Prepared
from reuse_compiler.passes.take_back import take_all_back, take_back
from reuse_compiler.paths import AnyPath, are_same
from reuse_compiler.pipeline import Lowered, carry_out, find_layers
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.regions.choose import Regions, carry_out_guarded, find_regions
from reuse_compiler.report import HoldReport, ModelReport
from reuse_compiler.reuse.config import ReuseConfig
from reuse_compiler.reuse.fitted import Fitted, fitted_files, load_fitted
from reuse_compiler.runtime import with_libraries
from reuse_compiler.verification.data import RandomSource, Shapes, Source
from reuse_compiler.verification.held import HELD, held_feeds, measure_held
from reuse_compiler.verification.inputs import Feed, InputSpec, model_inputs
from reuse_compiler.verification.probes import measure_ratios, measure_shapes
from reuse_compiler.verification.sessions import LoadError, Measuring, RunError
from reuse_compiler.verification.sources import Samples, data_files, open_data
from reuse_compiler.verification.spooled import SpooledSource
from reuse_compiler.verification.timing import ms_words
from reuse_compiler.verification.verify import LayerTensor, Verification, Verifier

logger = logging.getLogger(__name__)

LARGE_ERROR = 0.1
"""Relative error of the output beyond which the user is told what makes a result more exact."""


STILL = (
    "--stream is timed on one input again and again, of which nothing changes: give frames of a stream, in order, with "
    "--verify-data"
)


def default_output(model_path: AnyPath) -> Path:
    """Returns where the result goes unless the user says otherwise: `net.onnx` becomes `net.reuse.onnx`."""
    model_path = Path(model_path)
    stem = model_path.stem if model_path.suffix == ".onnx" else model_path.name
    return model_path.parent / f"{stem}.reuse.onnx"


def compile_file(
    model_path: AnyPath,
    output_path: AnyPath | None = None,
    options: CompileOptions | None = None,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    verify: bool = True,
    verify_data: Samples | None = None,
    threads: int = 1,
    progress: ProgressCallback = silent,
) -> ModelReport:
    """Compiles a model file and returns what was decided and measured.

    The result is verified first and then written in one step, also where nothing could be rewritten; with `dry_run`
    it is neither. Raises a ReuseError that says what to do: ConfigError (settings), ModelError (input), DataError
    (`verify_data`), LibraryError, VerificationError (wrong result: nothing is written), OutputError.
    """
    options = options or CompileOptions()
    output_path = Path(output_path or default_output(model_path))
    if not dry_run:
        check_result_path(model_path, output_path, overwrite)
    progress("reading the model", 0, 0)
    model = load_model(model_path)
    if not dry_run:
        refuse_read(output_path, files_read(model, model_path, options, verify_data))
    compiled, report = compile_model(
        model,
        options,
        name=os.fspath(model_path),
        folder=output_path.parent,
        verify=verify and not dry_run,
        verify_data=verify_data if verify else None,
        threads=threads,
        progress=progress,
    )
    if dry_run:
        return report
    progress("writing the result", 0, 0)
    save_model(compiled, output_path, overwrite=overwrite)
    return report.model_copy(update={"output": str(output_path)})


def compile_model(
    model: onnx.ModelProto,
    options: CompileOptions,
    *,
    name: str,
    folder: Path,
    verify: bool = True,
    verify_data: Samples | None = None,
    threads: int = 1,
    progress: ProgressCallback = silent,
) -> tuple[onnx.ModelProto, ModelReport]:
    """Compiles a model in memory, as `load_model` returns it; gives the result, and a report without an output.

    `model` is not changed; it is the result itself where nothing was rewritten. The report calls it `name`. `folder` is
    for temporary copies of a model with external data. Without `verify` the result is not run, and `verify_data` only
    serves to choose layers and settings. Raises what `compile_file` raises, but for OutputError.
    """
    source = None
    if verify_data is not None:
        specs = model_inputs(model)
        source = open_data(verify_data, specs, options.shapes)
        options = options.model_copy(update={"shapes": _shapes_from(source, specs) | options.shapes})
    config, fitted = _read_config(options)
    if config is not None:
        options = options.with_config(config)
    given = source
    if options.held is not None:
        image_axes(model, options.held, options.shapes)  # before the long work, for what it has to object
        if source is not None and len(source) > 1:
            # What a camera's noise changes is not what is computed: layers are chosen and timed on what is.
            held = held_feeds(*holds_alone(model, options.held, options.shapes), source)
            source = SpooledSource(held, model_inputs(model), HELD)
    progress("rewriting convolutions", 0, 0)
    prepared, ratios = find_layers(model, options.shapes), dict[str, float]()
    measuring = Measuring(threads, folder, progress)
    if source is not None and config is None:
        with with_libraries(options.custom_op_libraries):
            prepared, ratios = _measure(prepared, options, source, measuring)
        progress("rewriting convolutions", 0, 0)
    decisions = choose_parameters(prepared.layers, options, config, fitted, ratios)
    measured = None
    with with_libraries(options.custom_op_libraries):
        result = _carry_out(prepared, decisions, options, measuring if verify else None, on_data=source is not None)
        if verify and result.lowered.modified:
            source = source or RandomSource(model_inputs(model), prepared.bound, options.seed)
            if len(source) == 1 and any(layer.incremental for layer in plan_of(decisions).values()):
                logger.warning(STILL)
            with _advice(source, model, prepared.bound, options):
                result, measured = _verify(prepared, result, options, source, measuring)
            if measured is not None and result.regions and source.is_random:
                result, measured = _measure_repeating(prepared, result, options, measuring, measured)
        final, hold = _hold(model, result.lowered, options, given if verify else None, measuring)
    lowered = result.lowered
    report = ModelReport(
        model=name,
        layers=lowered.layers,
        versions=versions(),
        options=options.model_dump(mode="json"),
        fallback=options.fallback and lowered.modified,
        regions=result.regions.report() if result.regions else [],
        table_bytes=sum(layer.table_bytes or 0 for layer in lowered.layers if layer.keeps_tables),
        added_bytes=_weight_bytes(lowered.model) - _weight_bytes(model) if result.regions else 0,
        hold=hold,
    )
    if measured is not None:
        _add_measured(report, measured, lowered, threads)
    return final, report


def _hold(
    model: onnx.ModelProto, lowered: Lowered, options: CompileOptions, source: Source | None, measuring: Measuring
) -> tuple[onnx.ModelProto, HoldReport | None]:
    """Returns the result with its inputs held, if that was asked for, and what it costs."""
    settings = options.held
    if settings is None:
        return lowered.model, None
    if not lowered.modified:
        logger.warning("--hold is left out: no convolution uses reuse")
        return lowered.model, None
    result, held = hold_inputs(lowered.model, settings, lowered.bound, fallback=options.fallback)
    return result, measure_held(model, result, held, settings, source, measuring)


def files_read(
    model: onnx.ModelProto, model_path: AnyPath, options: CompileOptions, verify_data: Samples | None = None
) -> set[Path]:
    """Returns the files that a compilation reads, which no result may replace."""
    files = files_of(model, model_path) | set(options.custom_op_libraries)
    if options.config is not None:
        config = ReuseConfig.load(options.config)
        files |= {options.config} | fitted_files(config, options.config)
    return files | (data_files(verify_data) if verify_data is not None else set())


def check_result_path(model_path: AnyPath, output_path: Path, overwrite: bool) -> None:
    """Refuses an impossible output before any work is done."""
    if are_same(output_path, model_path):
        raise ConfigError(f"the output {output_path} is the model itself: give another name with -o")
    check_output(output_path, overwrite)


def _read_config(options: CompileOptions) -> tuple[ReuseConfig | None, Fitted]:
    if options.config is None:
        return None, Fitted()
    config = ReuseConfig.load(options.config)
    return config, load_fitted(config, options.config)


def _shapes_from(source: Source, specs: list[InputSpec]) -> dict[str, tuple[int, ...]]:
    """Shapes of the first feed for the dynamic inputs, so that settings are chosen for the data at hand."""
    feed = next(iter(source))
    return {spec.name: feed[spec.name].shape for spec in specs if spec.is_dynamic}


def measure_sizes(prepared: Prepared, feed: Feed, threads: int, folder: Path) -> Prepared:
    """Returns the layers with the sizes that they have in a run on `feed`, where shape inference did not find them."""
    unknown = [layer for layer in prepared.convolutions.values() if layer.in_main and not layer.spec.size_known]
    if not unknown:
        return prepared
    tensors = list(dict.fromkeys(layer.input for layer in unknown))
    return prepared.with_shapes(measure_shapes(prepared.model, tensors, feed, threads, folder))


def _measure(
    prepared: Prepared, options: CompileOptions, source: Source, measuring: Measuring
) -> tuple[Prepared, dict[str, float]]:
    """Returns the layers with the sizes that inference did not find, and r_c by layer with all of them rewritten.

    Left out, as running them may take long, are those that would become slower even if all of their vectors were equal.
    """
    prepared = measure_sizes(prepared, next(iter(source)), measuring.threads, measuring.folder)
    all_equal = {layer.name: 0.0 for layer in prepared.layers}
    probe = carry_out(prepared, choose_parameters(prepared.layers, options, None, Fitted(), all_equal), options)
    if not probe.modified:
        return prepared, {}
    by_node = measure_ratios(probe.model, source, measuring)
    return prepared, {layer: by_node[node] for layer, node in probe.rewritten.clustering.items() if node in by_node}


@dataclass(frozen=True)
class _Result:
    """A compiled model, and the regions that have two forms in it."""

    lowered: Lowered
    regions: Regions | None = None


def _carry_out(
    prepared: Prepared,
    decisions: Sequence[Decision],
    options: CompileOptions,
    measuring: Measuring | None,
    *,
    on_data: bool,
) -> _Result:
    """Carries decisions out, in regions where they can be; those on measured data are carried out anyway."""
    if options.guarded and not any(layer.incremental for layer in plan_of(decisions).values()):
        in_regions, regions = find_regions(prepared, decisions, measuring)
        if regions is not None or not on_data:
            return _Result(carry_out_guarded(prepared, in_regions, regions, options), regions)
    return _Result(carry_out(prepared, decisions, options))


def _verify(
    prepared: Prepared, result: _Result, options: CompileOptions, source: Source, measuring: Measuring
) -> tuple[_Result, Verification | None]:
    """Runs both models; takes layers back as long as theirs is slower, and nobody demanded them.

    Returns what is left, and what was measured of it: None where it is the original.
    """
    logger.info("verifying on %s", source.description)
    # Random inputs tell nothing of how the user's repeat themselves, so a time on them is only told. Regions are as
    # fast as the original on them, too.
    on_data = not source.is_random
    binding = options.guarded or not (source.is_random or options.force or options.config)
    while result.lowered.modified:
        lowered = result.lowered
        alone = lowered.rewritten.model
        verifier = Verifier(prepared.original, lowered.model, source, measuring, alone)
        measured = verifier.run(layer_tensors(lowered))
        if not (binding and measured.slower):
            check_lossless(prepared, lowered, measured, source, measuring)
            return result, measured
        wider = result.regions.widened(prepared) if result.regions else None
        if wider is not None:  # without the border behind the last region, the original nodes are all in one body
            result = _Result(carry_out_guarded(prepared, lowered.decisions, wider, options), wider)
            continue
        times = (
            f"the model took {ms_words(measured.reuse_ms)} ms with it, the original {ms_words(measured.dense_ms)} ms"
        )
        result = _carry_out(prepared, take_back(lowered.decisions, times), options, measuring, on_data=on_data)
    return result, None


def _measure_repeating(
    prepared: Prepared, result: _Result, options: CompileOptions, measuring: Measuring, measured: Verification
) -> tuple[_Result, Verification | None]:
    """Adds what the model takes on an input of which most repeats; takes it back if it is not faster even there."""
    source = RandomSource(model_inputs(prepared.original), prepared.bound, options.seed, repeating=True)
    lowered = result.lowered
    found = Verifier(prepared.original, lowered.model, source, measuring).run([])
    check_lossless(prepared, lowered, found, source, measuring)
    if found.faster:
        return result, replace(measured, repeating_ms=(found.dense_ms, found.reuse_ms))
    times = f"the model took {ms_words(found.reuse_ms)} ms, the original {ms_words(found.dense_ms)} ms"
    reason = f"{times}, where three quarters of the input were blank"
    return _Result(carry_out(prepared, take_all_back(lowered.decisions, reason), options)), None


def _add_measured(report: ModelReport, result: Verification, lowered: Lowered, threads: int) -> None:
    """Fills the measured fields of the report."""
    report.verified_on, report.threads = result.verified_on, threads
    report.max_abs_error, report.rel_error = result.max_abs_error, result.rel_error
    report.dense_ms, report.reuse_ms = result.dense_ms, result.reuse_ms
    report.repeating_ms = result.repeating_ms
    for layer in report.layers:
        layer.output_error = result.layer_errors.get(layer.name)
        layer.r_c = result.remaining_ratios.get(lowered.rewritten.clustering.get(layer.name, ""))
    _warn(result, are_lossless(lowered))


def _warn(result: Verification, lossless: bool) -> None:
    """Tells the user of a result that is not what they will want, and what to try."""
    if result.rel_error is not None and result.rel_error > LARGE_ERROR and lossless:
        logger.warning(
            "the outputs are rounding noise on this data, so that their relative error (%.2g) says nothing: each layer "
            "was checked by itself, and is right",
            result.rel_error,
        )
    elif result.rel_error is not None and result.rel_error > LARGE_ERROR:
        worst = max(result.layer_errors, key=result.layer_errors.__getitem__, default=None)
        logger.warning(
            "the output differs much from the original's (relative error %.2g): a smaller -L, a larger -H or "
            "--family exact are more exact%s",
            result.rel_error,
            f", or --exclude for layers such as '{worst}'" if worst is not None else "",
        )
    if result.slower:
        logger.warning(
            "the compiled model is slower than the original (%s ms, %s ms): measure on real inputs with "
            "--verify-data, leave layers as they are with --exclude, see the settings with --dry-run",
            ms_words(result.reuse_ms),
            ms_words(result.dense_ms),
        )


def _weight_bytes(model: onnx.ModelProto) -> int:
    """Returns what all constants of a model take, as often as they stand in it."""
    return sum(map(data_bytes, tensors_of(model)))


def layer_tensors(lowered: Lowered) -> list[LayerTensor]:
    """Returns the layers whose results can be compared, in graph order, with the bytes of a result."""
    return [
        LayerTensor(
            layer.name,
            lowered.outputs[layer.name],
            4 * layer.N * layer.M if layer.N and layer.M else None,
            lowered.rewritten.pixel_major.get(lowered.outputs[layer.name]),
        )
        for layer in lowered.layers
        if layer.name in lowered.outputs
    ]


@contextmanager
def _advice(source: Source, model: onnx.ModelProto, bound: Shapes, options: CompileOptions) -> Iterator[None]:
    """Adds to the error of a model that does not run on random inputs what the user can give instead."""
    try:
        yield
    except RunError as error:
        guessed = [spec for spec in model_inputs(model) if spec.is_dynamic and spec.name not in options.shapes]
        if isinstance(error, LoadError) or not source.is_random:
            advice = "--no-verify writes the result all the same"
        elif guessed:
            sizes = ",".join(str(size) for size in bound.get(guessed[0].name, ()))
            advice = (
                f"sizes of the input {guessed[0]} were guessed, give those you use: --shape {guessed[0].name}:{sizes}"
            )
        else:
            advice = (
                "random inputs may not suit it, give some that do with --verify-data, or skip this with --no-verify"
            )
        raise VerificationError(f"{error} ({advice})") from error
