"""The results of all networks as one Markdown page and one picture, made from the JSON files that are there."""

from __future__ import annotations

import math
from pathlib import Path

from reuse_compiler.calibration.report import Flips
from reuse_compiler.reports.calibration_words import metric_value, parameters_words, settings_words
from reuse_compiler.reports.table import number
from tools import pages
from tools.calibration_results.measure import INT8
from tools.calibration_results.networks import NETWORKS
from tools.calibration_results.picture import write_picture
from tools.calibration_results.results import NetworkResult, VariantResult, result_path


def write_page(folder: Path) -> Path:
    """Writes page and picture from the results in the folder, in the order of NETWORKS; returns the page's path."""
    paths = [path for path in (result_path(folder, network) for network in NETWORKS) if path.is_file()]
    results = [NetworkResult.model_validate_json(path.read_bytes()) for path in paths]
    write_picture(folder, results)
    return pages.write_page(
        folder / "calibration.md",
        Path(__file__).with_name("page.md.j2"),
        results=results,
        variants=_variants,
        layers=_layers,
        checks=_checks,
        minutes=lambda seconds: "{}:{:02}".format(*divmod(round(seconds), 60)),
        gigabytes=lambda size: f"{size / 1e9:.2g} GB",
    )


def _variants(result: NetworkResult) -> list[list[str]]:
    return [
        [
            _name(result, variant),
            metric_value(variant.metric),
            _change(variant.change, variant.flips),
            f"{variant.speedup:.2f}",
            f"{variant.median_ms:.4g}",
            number(variant.output_error),
        ]
        for variant in result.variants
    ]


def _name(result: NetworkResult, variant: VariantResult) -> str:
    if variant.name == INT8:
        return f"{variant.name} ({result.int8_form})"
    run = next((run for run in result.calibrations if run.variant == variant.name), None)
    if run is None:
        return variant.name
    return f"{variant.name} ({len(variant.layers)} of {len(run.report.layers)} convolutions)"


def _layers(result: NetworkResult) -> tuple[list[str], list[list[str]]]:
    """Settings and r_c of all layers that have reuse in any variant, in graph order: heading and rows."""
    reused = {variant.name: {layer.name: layer for layer in variant.layers} for variant in result.variants}
    reused = {name: layers for name, layers in reused.items() if layers}
    rows = []
    for layer in result.calibrations[0].report.layers:
        if not any(layer.name in layers for layers in reused.values()):
            continue
        cells = [layer.name, number(layer.K), number(layer.M)]
        for layers in reused.values():
            own = layers.get(layer.name)
            words = own and f"{parameters_words(own.settings)}, {settings_words(own.settings)}"
            cells += [words, number(own.r_c)] if own and words else ["dense", ""]
        rows.append(cells)
    return ["layer", "K", "M", *(heading for name in reused for heading in (name, "r_c"))], rows


def _checks(result: NetworkResult) -> list[list[str]]:
    """What reconstruction makes of the same choice, on the part of the calibration data that was held out from it."""
    return [
        [run.variant, how, metric_value(c.value), _change(0.0 - c.drop, c.flips), number(c.output_error)]
        for run in result.calibrations
        for how, c in run.report.reconstruction.items()
    ]


def _change(value: float, flips: Flips | None) -> str:
    if not math.isfinite(value):
        return "–"
    words = f"{value:+.4f}".replace("-", "−") if value else "0"
    return words if flips is None or flips.standard_error == 0.0 else f"{words} ± {flips.standard_error:.4f}"
