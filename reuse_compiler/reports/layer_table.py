"""The table of a model's layers, and the one of the trials that the choice of layers went through."""

from __future__ import annotations

from reuse_compiler.calibration.report import CalibrationReport, LayerCalibration
from reuse_compiler.reports.calibration_words import (
    chosen_trial,
    errors_words,
    metric_value,
    milliseconds,
    parameters_words,
    settings_words,
    times_as_fast,
)
from reuse_compiler.reports.markup import Markup, join, tag
from reuse_compiler.reports.sections import DASH, details, section, table
from reuse_compiler.reports.table import number

LAYERS_HEAD = ("Layer", "Decision", "Settings", "r_c", "Dense ms", "Reuse ms", "Speed-up", "Error", "Bound")
STEPS_HEAD = ("Step", "Layers", "Metric", "Drop", "Output error", "Speed-up", "Budget")


def layers_section(report: CalibrationReport) -> Markup | None:
    """Returns the table of layers, None for a model without a convolution."""
    if not report.layers:
        return None
    rows = [_layer_row(layer) for layer in report.layers]
    caption = (
        "Times are those of the layer alone. The error is the relative L2 error of its result on the original model's "
        "input, the bound what the inference paper's Eq. 2 allows at most."
    )
    classes = [layer.decision for layer in report.layers]
    return section("Layers", caption, table(LAYERS_HEAD, rows, classes), id_="layers")


def steps_table(report: CalibrationReport) -> Markup | None:
    """Returns the trials in the order they were made, folded away; None without any."""
    if not report.trials:
        return None
    chosen = chosen_trial(report)
    rows = [
        [
            join(trial.step),
            join(str(len(trial.layers))),
            join(metric_value(trial.value)),
            join(metric_value(trial.drop)),
            join(errors_words(trial.output_error)),
            join(times_as_fast(trial.dense_ms, trial.reuse_ms)),
            tag("span", "chosen" if trial is chosen else "kept" if trial.accepted else "not kept",
                class_="pill " + ("reuse" if trial is chosen else "good" if trial.accepted else "bad")),
        ]
        for trial in report.trials
    ]  # fmt: skip
    count = len(report.trials)
    return details(f"{count} step{'' if count == 1 else 's'} of the search", table(STEPS_HEAD, rows))


def _layer_row(layer: LayerCalibration) -> list[Markup]:
    shape = None if layer.N is None else tag("small", f"N={layer.N:,}  K={layer.K:,}  M={layer.M:,}", class_="shape")
    name = join(tag("span", layer.name, class_="name"), shape, tag("small", layer.reason))
    pill = tag("span", layer.decision, class_=f"pill {layer.decision}")
    chosen = layer.chosen
    if chosen is None:
        return [name, pill, DASH, DASH, join(milliseconds(layer.dense_ms)), *[DASH] * 4]
    settings = join(parameters_words(chosen.settings), tag("small", settings_words(chosen.settings)))
    return [
        name,
        pill,
        settings,
        join(number(chosen.r_c)),
        join(milliseconds(chosen.dense_ms)),
        join(milliseconds(chosen.reuse_ms)),
        tag("strong", times_as_fast(chosen.dense_ms, chosen.reuse_ms)),
        join(errors_words(chosen.output_error)),
        join(errors_words(chosen.error_bound)),
    ]
