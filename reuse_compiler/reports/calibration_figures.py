"""The figures of a calibration's page. All of their numbers stand in the page's tables, too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import cycle, groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reuse_compiler.calibration.report import CalibrationReport, ClusterPicture, LayerCalibration, Measurement, Trial
from reuse_compiler.reports.calibration_words import chosen_trial, metric_value, milliseconds
from reuse_compiler.reports.figures import (
    BAD,
    GOOD,
    INK,
    MUTED,
    ORDERED,
    REST,
    REUSE,
    SERIES,
    SURFACE,
    Picture,
    cluster_colours,
    draw,
    make_logarithmic,
    pixels,
)  # fmt: skip
from reuse_compiler.reuse.families import FAMILIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 360
"""Of a drawing: it fits a phone, and its text is still not large where a screen shows it half as large again."""
PIECES = 7
"""So many layers have their own place in the bars of time, the others share one: more cannot be told apart."""
FAR = 6.0
"""A trial further below the target than so many times the allowed drop is left out of the figure."""
MARKERS = dict(zip(FAMILIES, cycle([("^", "▲"), ("o", "●"), ("s", "■"), ("D", "◆"), ("v", "▼")])))
"""Of families, as matplotlib calls them and as they stand in a legend."""
STATIC_MARKER = ("P", "✚")
"""Of scope static, whatever the family."""


class Share(NamedTuple):
    """A layer in the convolutions' time: its colour, milliseconds before and after."""

    name: str
    colour: str
    before: float
    after: float


class Key(NamedTuple):
    """An entry of a legend."""

    colour: str
    mark: str
    words: str


def shares(layers: Sequence[LayerCalibration]) -> list[Share]:
    """Returns the layers that take longest, each in a colour, in the order of the model, and the rest as one."""
    known = []
    for layer in layers:
        before = layer.chosen.dense_ms if layer.chosen else layer.dense_ms
        if before is not None:
            known.append((layer.name, before, layer.chosen.reuse_ms if layer.chosen else before))
    longest = set(sorted(range(len(known)), key=lambda index: -known[index][1])[:PIECES])
    colours = iter(SERIES)
    found = [Share(name, next(colours), *times) for index, (name, *times) in enumerate(known) if index in longest]
    rest = [item for index, item in enumerate(known) if index not in longest]
    if rest:
        name = f"{len(rest)} other layer{'' if len(rest) == 1 else 's'}"
        found.append(Share(name, REST, sum(item[1] for item in rest), sum(item[2] for item in rest)))
    return found


def times_figure(found: Sequence[Share]) -> Picture:
    """Draws the time of all layers before and after as two stacked bars."""
    totals = {"Dense": sum(s.before for s in found), "Reuse": sum(s.after for s in found)}

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        left = np.zeros(2)
        for share in found:
            times = np.array([share.before, share.after])
            axes.barh([*totals], times, left=left, height=0.62, color=share.colour, edgecolor=SURFACE, linewidth=1.0)
            left += times
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", labelcolor=INK)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("ms")

    words = " and ".join(f"{milliseconds(total)} ms {name.lower()}" for name, total in totals.items())
    return draw(WIDTH, 130, paint, f"The layers' shares in {words}, as listed beside")


def near_trials(report: CalibrationReport) -> list[Trial]:
    """Returns the trials that the figure of speed shows: not those that went completely wrong."""
    sign = 1.0 if report.higher_is_better else -1.0
    finite = [t for t in report.trials if math.isfinite(t.value) and t.reuse_ms > 0 and math.isfinite(report.target)]
    best = max([sign * v for v in (*(t.value for t in finite), *_originals(report)) if math.isfinite(v)], default=0.0)
    allowed = max(best - sign * report.target, 0.0) or 0.01 * abs(report.target)
    return [t for t in finite if sign * (t.value - report.target) >= -FAR * allowed]


def _originals(report: CalibrationReport) -> list[float]:
    """Returns the original model's metric on the samples for selection, by each trial; nothing where it is infinite."""
    sign = 1.0 if report.higher_is_better else -1.0
    return [t.value + sign * t.drop for t in report.trials if math.isfinite(t.value) and math.isfinite(t.drop)]


def speed_figure(report: CalibrationReport) -> Picture | None:
    """Draws each trial's speed-up against its metric, with the budget; None without trials to draw."""
    trials, chosen = near_trials(report), chosen_trial(report)
    if not trials:
        return None

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axhline(report.target, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label="budget")
        axes.axvline(1.0, color=MUTED, linewidth=1.0)
        for words, colour, marker, size, some in (
            ("not kept", BAD, "X", 60, [t for t in trials if not t.accepted and t is not chosen]),
            ("kept", GOOD, "o", 60, [t for t in trials if t.accepted and t is not chosen]),
            ("chosen", REUSE, "*", 220, [t for t in trials if t is chosen]),
        ):
            if some:
                place = [t.dense_ms / t.reuse_ms for t in some], [t.value for t in some]
                axes.scatter(*place, s=size, marker=marker, color=colour, edgecolor=SURFACE, zorder=3, label=words)
        for original in _originals(report)[:1]:
            axes.scatter([1.0], [original], s=44, facecolor=SURFACE, edgecolor=INK, zorder=4, label="original")
        axes.set_xlabel("speed-up, end to end")
        metric = report.metric if len(report.metric) <= 40 else f"{report.metric[:39]}…"
        axes.set_title(metric if report.higher_is_better else f"{metric} (less is better)")
        axes.locator_params(axis="x", nbins=5)
        axes.xaxis.set_major_formatter("{x:g}×")
        figure.legend(loc="outside lower center", ncols=3, handletextpad=0.3, columnspacing=1.2)

    words = f"Speed-up against {report.metric} of {len(trials)} choices; the budget is {metric_value(report.target)}"
    return draw(WIDTH, 300, paint, words)


def curve_keys(layers: Sequence[LayerCalibration]) -> list[Key]:
    """Returns the legend of the layers' curves; of families, layouts and tables only where there is more than one."""
    settings = [m.settings for layer in layers for m in layer.measurements]
    keys = [Key(colour, "━━", f"L={length}") for length, colour in _length_colours(layers).items()]
    families = list(dict.fromkeys(s.family for s in settings))
    if len(families) > 1:
        keys += [Key(MUTED, MARKERS[name][1], name) for name in families]
    if any(s.scope == "static" for s in settings):
        keys.append(Key(MUTED, STATIC_MARKER[1], "scope static"))
    if len({s.layout for s in settings}) > 1:
        keys += [Key(MUTED, "●", "channel"), Key(MUTED, "○", "patch")]
    if len({s.table for s in settings}) > 1:
        keys += [Key(MUTED, "━━", "float tables"), Key(MUTED, "╍╍", "int8 tables")]
    return keys


def curve_figures(layers: Sequence[LayerCalibration]) -> list[tuple[LayerCalibration, Picture]]:
    """Draws each layer's remaining ratio against the error of its result, as the papers' Fig. 8 does.

    Layers without a measurement that can be drawn (logarithms of zero) are left out.
    """
    colours = _length_colours(layers)
    drawn = []
    for layer in layers:
        shown = [m for m in layer.measurements if _has_logarithms(m)]
        if shown:
            words = f"Remaining ratio against error of {len(shown)} ways to rewrite {layer.name}"
            paint = partial(_paint_curves, layer=layer, shown=shown, colours=colours)
            drawn.append((layer, draw(300, 220, paint, words)))
    return drawn


def _length_colours(layers: Sequence[LayerCalibration]) -> dict[int, str]:
    """Returns the colour of each sub-vector length: short to long along the whole range."""
    ordered = sorted({m.settings.sub_vector_length for layer in layers for m in layer.measurements})
    last = max(len(ordered) - 1, 1)
    return {length: ORDERED[round(i * (len(ORDERED) - 1) / last)] for i, length in enumerate(ordered)}


def _has_logarithms(m: Measurement) -> bool:
    return m.r_c > 0 and m.output_error > 0 and math.isfinite(m.output_error)


def _kind(m: Measurement) -> tuple[Any, ...]:
    """Returns what the measurements of one line have in common."""
    s = m.settings
    return s.sub_vector_length, s.layout, s.table, s.family, s.scope, s.metric, s.capacity


def _paint_curves(
    figure: Figure, layer: LayerCalibration, shown: Sequence[Measurement], colours: dict[int, str]
) -> None:
    axes = figure.add_subplot()
    for (length, layout, table, family, scope, *_), group in groupby(sorted(shown, key=_kind), key=_kind):
        points = sorted(group, key=lambda m: m.r_c)
        marker = STATIC_MARKER if scope == "static" else MARKERS[family]
        axes.plot(
            [m.r_c for m in points], [m.output_error for m in points], color=colours[length], markersize=5,
            linestyle="--" if table == "int8" else "-", marker=marker[0],
            markerfacecolor=SURFACE if layout == "patch" else colours[length],
        )  # fmt: skip
    chosen = layer.chosen
    if chosen is not None and _has_logarithms(chosen):
        place = [chosen.r_c], [chosen.output_error]
        axes.scatter(*place, s=190, facecolor="none", edgecolor=INK, linewidth=1.8, zorder=4)
    make_logarithmic(axes, "x", [m.r_c for m in shown])
    make_logarithmic(axes, "y", [m.output_error for m in shown])
    axes.set_xlabel("remaining ratio r_c")
    axes.set_title("relative error")


def reconstruction_figure(layers: Sequence[LayerCalibration]) -> Picture | None:
    """Draws each layer's error before and after reconstruction as two dots in a row, numbered in this order."""
    both = [
        (number, layer.error_as_is, layer.error_reconstructed)
        for number, layer in enumerate(layers, 1)
        if layer.error_as_is is not None and layer.error_reconstructed is not None
    ]
    if not both:
        return None
    numbers, before, after = zip(*both, strict=True)

    def paint(figure: Figure) -> None:
        axes, rows = figure.add_subplot(), range(len(both))
        axes.hlines(rows, before, after, color=REST, linewidth=2.5)
        axes.scatter(before, rows, s=44, facecolor=SURFACE, edgecolor=MUTED, zorder=3, label="before")
        axes.scatter(after, rows, s=44, color=REUSE, zorder=3, label="after")
        axes.set_yticks(rows, list(map(str, numbers)))
        axes.set_ylim(len(both) - 0.4, -0.6)
        axes.set_xlim(0, 1.08 * max(*before, *after))
        axes.locator_params(axis="x", nbins=5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("relative error of the layer's result")
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.3)

    return draw(
        WIDTH, 90 + 20 * len(both), paint, "Error of each layer before and after reconstruction, as listed beside"
    )


def cluster_images(picture: ClusterPicture) -> list[Picture]:
    """Returns the input image, if there is one, and the clusters."""
    ids = np.array(picture.ids, np.int64)
    image = [pixels(np.array(picture.image, np.uint8), "the input image")] if picture.image else []
    words = f"clusters of {picture.layer}, block {picture.block}"
    return [*image, pixels(cluster_colours(int(ids.max()) + 1)[ids], words)]
