"""What a calibration came to, in words and numbers as people write them. Knows nothing of HTML."""

from __future__ import annotations

import math
from typing import Literal

from reuse_compiler.calibration.report import LEAST_SPEEDUP, CalibrationReport, Check, LayerCalibration, Trial
from reuse_compiler.reports.table import number, ratio_words
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.verification.timing import ms_words

Verdict = Literal["good", "bad", "neutral"]


def metric_value(value: float | None) -> str:
    """Returns a metric with four significant digits."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}".replace("-", "−")


def milliseconds(value: float | None) -> str:
    """Returns a time with three significant digits."""
    return "–" if value is None or not math.isfinite(value) else ms_words(value)


def times_as_fast(dense: float | None, reuse: float | None) -> str:
    """Returns the speed-up, as in `1.84×`."""
    return f"{dense / reuse:.2f}×" if dense is not None and reuse else "–"


def settings_words(settings: LayerSettings) -> str:
    """Returns settings in a few words; what is usual goes without saying."""
    words: list[str] = [settings.family, settings.layout]
    if settings.table != "float":
        words.append(f"{settings.table} tables")
    if settings.scope != "batch":
        words.append(f"scope {settings.scope}")
    if settings.metric != "euclidean":
        words.append(settings.metric)
    if settings.capacity < 1.0:
        words.append(f"capacity {settings.capacity:g}")
    return " · ".join(words)


def parameters_words(settings: LayerSettings) -> str:
    """Returns L and H."""
    return f"L={settings.sub_vector_length}, H={settings.num_hashes}"


def rewritten(report: CalibrationReport) -> list[LayerCalibration]:
    """Returns the layers that use reuse."""
    return [layer for layer in report.layers if layer.decision == "reuse"]


def longest_work(report: CalibrationReport, most: int = 5) -> list[tuple[str, float]]:
    """Returns the kinds of work that took longest, longest first, with their shares of all time."""
    by_time = sorted(report.ledger.items(), key=lambda entry: -entry[1])
    return [(kind, seconds / report.seconds) for kind, seconds in by_time[:most] if report.seconds > 0]


def chosen_trial(report: CalibrationReport) -> Trial | None:
    """Returns the last trial of the layers and settings that were chosen, None if there is none."""
    choice = {layer.name: layer.chosen.settings for layer in rewritten(report) if layer.chosen is not None}
    held = report.hold.tolerances[0] if report.hold else None
    same = [trial for trial in report.trials if trial.layers == choice and trial.tolerance == held] if choice else []
    return same[-1] if same else None


def verdict(report: CalibrationReport) -> tuple[Verdict, str]:
    """Returns whether the budget is kept, in three or four words."""
    if not rewritten(report):
        return "neutral", "No layer gains from reuse"
    if report.check is None:
        return "neutral", "Not checked on held-out data"
    if not report.check.is_faster:
        return "bad", "Slower than the original"
    if report.check.within_budget:
        return "good", "Budget kept on held-out data"
    return "bad", "Budget not kept on held-out data"


def headline(report: CalibrationReport) -> str:
    """Returns what the calibration came to, in one sentence or two."""
    if not report.layers:
        return "The model has no convolution, so there is nothing that reuse could make faster."
    if not rewritten(report):
        why = why_nothing(report)
        return (
            "No layer gains from reuse within the accuracy budget: the model is best left as it is. "
            f"{why[0].upper()}{why[1:]}."
        )
    if report.check is None:
        trial = chosen_trial(report)
        if trial is None:
            return f"{layers_words(report)}. The result was not measured on held-out data."
        return f"{_speed(trial)} The result was not measured on held-out data."
    check = report.check
    kept = "which keeps the budget" if check.within_budget else "which is more than the budget allows"
    return (
        f"{_speed(check)} On {check.samples} held-out {'run' if check.samples == 1 else 'runs'} {report.metric} goes "
        f"from {metric_value(check.original)} to {metric_value(check.value)}, {kept}."
    )


def is_success(report: CalibrationReport) -> bool:
    """Returns whether layers were chosen with which the model is faster, as far as that was measured."""
    return bool(rewritten(report)) and (report.check is None or report.check.is_faster)


def breaks_budget(report: CalibrationReport) -> bool:
    """Returns whether layers were chosen with which samples that took no part lose more than the budget allows."""
    return bool(rewritten(report)) and report.check is not None and not report.check.within_budget


def why_nothing(report: CalibrationReport) -> str:
    """Returns why no layer was chosen: what was tried, and the best of it. The text begins small and has no full stop.

    A calibration that chose nothing ended at one of these places; each later one has more behind it.
    """
    measured = [(layer.name, measurement) for layer in report.layers for measurement in layer.measurements]
    if not measured:
        return "no settings were tried: the reason stands with each layer" if report.layers else "no layers"
    count = len({name for name, _ in measured})
    tried = f"{_count(len(measured), 'setting')} of {_count(count, 'layer')} {_were(len(measured))} measured"
    name, best = min(measured, key=lambda pair: pair[1].reuse_ms / pair[1].dense_ms)
    words = f"{parameters_words(best.settings)} in '{name}' is {ratio_words(best.dense_ms, best.reuse_ms)} alone"
    trials = [trial for trial in report.trials if trial.layers]  # others are of inputs that are held
    if not trials:
        return f"{tried}, and none is worth a trial in the whole model: the fastest, {words}"
    kept = [trial for trial in trials if trial.accepted]
    choices = f"{_count(len(trials), 'choice')} of layers {_were(len(trials))} tried in the whole model"
    if not kept:
        nearest = (max if report.higher_is_better else min)(trials, key=lambda trial: trial.value)
        return (
            f"{tried}, {choices}, and none keeps the accuracy budget: the nearest has {report.metric} "
            f"{nearest.value:.5g}, where {report.target:.5g} is needed, and is "
            f"{ratio_words(nearest.dense_ms, nearest.reuse_ms)}"
        )
    fastest = min(kept, key=lambda trial: trial.reuse_ms / trial.dense_ms)
    ratio = ratio_words(fastest.dense_ms, fastest.reuse_ms)
    if report.check is not None:
        held_out = ratio_words(report.check.dense_ms, report.check.reuse_ms)
        return f"{tried}, {choices}, and the best of them, {ratio} at first, is {held_out} on the held-out samples"
    gains = fastest.reuse_ms < fastest.dense_ms
    noise = f": less than {LEAST_SPEEDUP:g} is within what times vary by" if gains else ""
    return f"{tried}, {choices}, and the fastest that keeps the accuracy budget is {ratio}{noise}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def errors_words(error: float | None) -> str:
    """Returns a relative error with two significant digits."""
    return "–" if error is None else "∞" if math.isinf(error) else number(error)


def layers_words(report: CalibrationReport) -> str:
    """Returns how many layers use reuse."""
    return f"{len(rewritten(report))} of {len(report.layers)} convolutions use reuse"


def drop_words(check: Check) -> str:
    """Returns how much worse the metric became, with its standard error where that is known."""
    drop = "none" if check.drop == 0 else metric_value(check.drop)
    return drop if check.flips is None else f"{drop} ± {metric_value(check.flips.standard_error)}"


def drop_or_target(report: CalibrationReport, check: Check) -> str:
    """Returns the drop, or where the original's metric is infinite (psnr) what had to be reached."""
    return f"drop {drop_words(check)}" if math.isfinite(check.drop) else f"target {metric_value(report.target)}"


def duration(seconds: float) -> str:
    """Returns a time that people wait."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def option_words(value: object) -> str:
    """Returns the value of an option."""
    if value is None:
        return "not given"
    if isinstance(value, dict):
        return ", ".join(f"{name}={option_words(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(option_words, value)) or "none"
    return str(value)


def _speed(measured: Check | Trial) -> str:
    dense, reuse = measured.dense_ms, measured.reuse_ms
    ratio = ratio_words(dense, reuse)
    return f"With reuse the model is {ratio}: {milliseconds(reuse)} ms instead of {milliseconds(dense)} ms."
