"""Speed against the metric: one mark for each trial of the search, with the budget."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from reuse_compiler.calibration.report import CalibrationReport, Trial
from reuse_compiler.reports.calibration_words import chosen_trial, metric_value
from reuse_compiler.reports.inline_svg import drawing, inline_svg, new_axes
from reuse_compiler.reports.markup import Markup
from reuse_compiler.reports.theme import stand_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAR = 6.0
"""A trial further below the target than so many times the allowed drop is drawn at the edge."""
LONGEST_LABEL = 40


def speed_chart(report: CalibrationReport, width: int) -> Markup | None:
    """Draws each trial's speed-up against its metric, with the budget; None without trials to draw."""
    trials = _drawable(report)
    if not trials:
        return None
    with drawing():
        axes = new_axes(width, 320 if width > 400 else 260)
        low, high = _window(report, trials)
        room = (high - low) * 0.06
        axes.set_ylim(low - room, high + room)
        axes.set_xlim(*_speed_range([t.dense_ms / t.reuse_ms for t in trials]))
        axes.set_xlabel("speed-up, end to end")
        label = report.metric if len(report.metric) <= LONGEST_LABEL else f"{report.metric[: LONGEST_LABEL - 1]}…"
        axes.set_title(label if report.higher_is_better else f"{label} (less is better)")
        axes.locator_params(axis="x", nbins=max(3, width // 90))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}×")
        _draw_budget(axes, report)
        titles = _draw_trials(axes, report, trials)
        return inline_svg(axes, f"speed-{width}", f"Speed-up against {report.metric} of {len(trials)} trials", titles)


def far_trials(report: CalibrationReport) -> int:
    """Returns how many trials the figure of speed shows at its edge."""
    trials = _drawable(report)
    if not trials:
        return 0
    low, high = _window(report, trials)
    return sum(not low <= t.value <= high for t in trials)


def _drawable(report: CalibrationReport) -> list[Trial]:
    if not math.isfinite(report.target):
        return []
    return [t for t in report.trials if math.isfinite(t.value) and t.reuse_ms > 0]


def _draw_budget(axes: Axes, report: CalibrationReport) -> None:
    below = report.higher_is_better
    axes.axhline(report.target, color=stand_in("ink"), linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
    axes.axvline(1.0, color=stand_in("muted"), linewidth=1.0, zorder=1)
    axes.annotate(
        f"budget {metric_value(report.target)}", (1.0, report.target), xycoords=("axes fraction", "data"),
        xytext=(-2, -4 if below else 4), textcoords="offset points", ha="right", va="top" if below else "bottom",
        color=stand_in("ink"), fontsize=10,
    )  # fmt: skip


def _draw_trials(axes: Axes, report: CalibrationReport, trials: list[Trial]) -> dict[str, list[str]]:
    """Draws the marks and returns what each tells, by the gid of those drawn together."""
    low, high = _window(report, trials)
    titles = {}
    for name, role, marker, shown in _marks(report, trials):
        axes.scatter(
            [t.dense_ms / t.reuse_ms for t in shown], [min(max(t.value, low), high) for t in shown],
            s=260 if name == "chosen" else 72, marker=marker, facecolor=stand_in(role), edgecolor=stand_in("surface"),
            linewidth=1.0, zorder=3, clip_on=False, gid=name,
        )  # fmt: skip
        titles[name] = [_trial_words(report, t) for t in shown]
    original = _original(report, trials)
    if original is not None:
        axes.scatter(
            [1.0], [original], s=44, facecolor=stand_in("surface"), edgecolor=stand_in("ink"), linewidth=1.6,
            zorder=4, clip_on=False, gid="original",
        )  # fmt: skip
        titles["original"] = [f"the original model: {report.metric} {metric_value(original)}"]
    return titles


def _marks(report: CalibrationReport, trials: list[Trial]) -> Iterator[tuple[str, str, str, list[Trial]]]:
    """Yields trials that are drawn alike: name, role of the colour, marker, trials."""
    chosen = chosen_trial(report)
    others = [t for t in trials if t is not chosen]
    low, high = _window(report, trials)
    for name, role, marker, some in (
        ("rejected", "bad", "X", [t for t in others if not t.accepted]),
        ("accepted", "good", "o", [t for t in others if t.accepted]),
        ("chosen", "reuse", "*", [t for t in trials if t is chosen]),
    ):
        inside, above = [t for t in some if low <= t.value <= high], [t for t in some if t.value > high]
        below = [t for t in some if t.value < low]
        for suffix, shape, shown in (("", marker, inside), ("-above", "^", above), ("-below", "v", below)):
            if shown:
                yield name + suffix, role, shape, shown


def _original(report: CalibrationReport, trials: list[Trial]) -> float | None:
    """Returns the original model's metric on the samples for selection, None if it is infinite (psnr)."""
    drops = [t.value + t.drop if report.higher_is_better else t.value - t.drop for t in trials if math.isfinite(t.drop)]
    return drops[0] if drops else None


def _window(report: CalibrationReport, trials: list[Trial]) -> tuple[float, float]:
    """Returns the values of the metric that the figure covers: around the target, whatever went completely wrong."""
    sign = 1.0 if report.higher_is_better else -1.0
    goodness, target = [sign * t.value for t in trials], sign * report.target
    original = _original(report, trials)
    best = max(*goodness, target, target if original is None else sign * original)
    allowed = best - target if best > target else max(0.01 * abs(target), 1e-6)
    worst = min(max(min(goodness), target - FAR * allowed), target - 0.3 * allowed)
    return (worst, best) if sign > 0 else (-best, -worst)


def _speed_range(ratios: list[float]) -> tuple[float, float]:
    low, high = min(1.0, *ratios), max(1.0, *ratios)
    room = 0.06 * max(high - low, 0.1)
    return low - room, high + room


def _trial_words(report: CalibrationReport, trial: Trial) -> str:
    fate = "keeps the budget" if trial.accepted else "breaks the budget"
    ratio = trial.dense_ms / trial.reuse_ms
    layers = f"{len(trial.layers)} layer{'' if len(trial.layers) == 1 else 's'}"
    return f"{trial.step}: {ratio:.2f}× with {layers}, {report.metric} {metric_value(trial.value)}, {fate}"
