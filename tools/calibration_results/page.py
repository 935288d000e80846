"""The results of all networks as one Markdown page, made from the JSON files that are there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from reuse_compiler.calibration.report import Flips
from reuse_compiler.reports.calibration_words import metric_value, parameters_words, settings_words
from reuse_compiler.reports.table import number
from reuse_compiler.reuse.config import LayerSettings
from tools.calibration_results.measure import INT8
from tools.calibration_results.networks import NETWORKS
from tools.calibration_results.results import CalibrationRun, NetworkResult, VariantResult, result_path
from tools.prose import paragraph

PAGE = "calibration.md"
INTRODUCTION = """\
# Calibrated networks

Made by `tools/calibration_results` from the `calibration_*.json` files beside it. Every network is calibrated
on one part of its data and judged on another, which took no part. There, all forms take turns in one process,
with one thread, on the same run of the model. In the tables:

* `ms` is the median of those runs, and `speed-up` is over the original model in onnxruntime.
* `change` is the metric's from the original's, with the standard error that it would have if other pictures
  were drawn. Top-1 is accuracy by the labels; all other metrics compare with the original's output.
* `error` is the relative L2 error of the output.
* `onnxruntime int8` is its static quantisation (weights per channel, ranges of the activations from the same
  calibration data), in whichever of its forms runs fastest.
* `learned` is what reuse-calibrate finds. `sign` is the same with the papers' random hyperplanes and
  `--budget quick`.
"""
RECONSTRUCTION = (
    "The same choice with each `--reconstruct`, on the runs for calibration that only the last check sees:\n"
)
COMMANDS = "Commands; the first one does all of it, or with `--data-only` writes model and data for the others:\n"


def write_page(folder: Path) -> Path:
    """Writes the page from the results in the folder, networks in the order of NETWORKS; returns its path."""
    path = folder / PAGE
    sections = [
        section(NetworkResult.model_validate_json(result_path(folder, network).read_bytes()))
        for network in NETWORKS
        if result_path(folder, network).is_file()
    ]
    path.write_text("\n".join([INTRODUCTION, *sections]), encoding="utf-8")
    return path


def section(result: NetworkResult) -> str:
    """Returns the part of the page that is about one network."""
    return "\n".join(
        [*_head(result), *_variants(result), *_layers(result), *_reconstruction(result), *_commands(result)]
    )


def _head(result: NetworkResult) -> Iterator[str]:
    yield f"## {result.title}\n"
    if result.limit is not None:
        yield f"**Only a trial of the tool, with {result.limit} pictures of each kind: these numbers mean nothing.**\n"
    machine, versions = result.machine, result.machine.versions
    yield paragraph(
        f"The model was calibrated on {result.calibrated_on}, and judged on {result.held_out}, in {result.rounds} "
        f"rounds. It ran on {_threads(result.threads)} of {machine.processor} ({machine.processors} processors), with "
        f"onnxruntime {versions['onnxruntime']} and reuse-compiler {versions['reuse-compiler']}."
    )
    yield ""
    for goal in result.goals:
        yield f"* {goal.goal}: **{'yes' if goal.reached else 'no'}**"
    if result.goals:
        yield ""


def _variants(result: NetworkResult) -> Iterator[str]:
    yield _row(["variant", result.metric, "change", "speed-up", "ms", "error"])
    yield _row(["---"] * 6)
    for variant in result.variants:
        yield _row(
            [
                _name(result, variant),
                metric_value(variant.metric),
                _change(variant.change, variant.flips),
                f"{variant.speedup:.2f}",
                f"{variant.median_ms:.4g}",
                number(variant.output_error),
            ]
        )
    yield ""


def _name(result: NetworkResult, variant: VariantResult) -> str:
    if variant.name == INT8:
        return f"{variant.name} ({result.int8_form})"
    run = next((run for run in result.calibrations if run.variant == variant.name), None)
    if run is None:
        return variant.name
    return f"{variant.name} ({len(variant.layers)} of {len(run.report.layers)} convolutions)"


def _layers(result: NetworkResult) -> Iterator[str]:
    """Settings and r_c of all layers that have reuse in any variant, in graph order."""
    reused = [variant for variant in result.variants if variant.layers]
    if not reused:
        yield "All layers stay dense: no settings gain within the budget.\n"
        return
    sizes = {layer.name: (layer.K, layer.M) for layer in result.calibrations[0].report.layers}
    own = [{layer.name: layer for layer in variant.layers} for variant in reused]
    yield _row(["layer", "K", "M", *(heading for variant in reused for heading in (variant.name, "r_c"))])
    yield _row(["---"] * (3 + 2 * len(reused)))
    for name, (columns, channels) in sizes.items():
        if not any(name in layers for layers in own):
            continue
        cells = [name, number(columns), number(channels)]
        for layers in own:
            layer = layers.get(name)
            cells += ["dense", ""] if layer is None else [_settings(layer.settings), number(layer.r_c)]
        yield _row(cells)
    yield ""


def _settings(settings: LayerSettings) -> str:
    return f"{parameters_words(settings)}, {settings_words(settings)}"


def _reconstruction(result: NetworkResult) -> Iterator[str]:
    """What reconstruction makes of the same choice, on the part of the calibration data that was held out from it."""
    runs = [run for run in result.calibrations if run.report.reconstruction]
    if not runs:
        return
    yield RECONSTRUCTION
    yield _row(["variant", "--reconstruct", result.metric, "change", "error"])
    yield _row(["---"] * 5)
    for run in runs:
        for how, check in run.report.reconstruction.items():
            yield _row(
                [
                    run.variant,
                    how,
                    metric_value(check.value),
                    _change(0.0 - check.drop, check.flips),
                    number(check.output_error),
                ]
            )
    yield ""


def _commands(result: NetworkResult) -> Iterator[str]:
    yield COMMANDS
    yield f"    {result.command}"
    for run in result.calibrations:
        yield f"    {run.command}"
        yield f"    {run.compile_command}"
    yield ""
    took = "; ".join(f"{run.variant} {_took(run)}" for run in result.calibrations)
    yield paragraph(f"The calibrations took: {took}. Comparing took at most {_gigabytes(result.peak_bytes)}.")
    yield ""


def _took(run: CalibrationRun) -> str:
    minutes, seconds = divmod(round(run.seconds), 60)
    return f"{minutes}:{seconds:02} minutes and at most {_gigabytes(run.peak_bytes)}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2g} GB"


def _change(value: float, flips: Flips | None) -> str:
    if not math.isfinite(value):
        return "–"
    words = f"{value:+.4f}".replace("-", "−") if value else "0"
    return words if flips is None or flips.standard_error == 0.0 else f"{words} ± {flips.standard_error:.4f}"


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
