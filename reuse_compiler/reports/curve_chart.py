"""A layer's remaining ratio against the error of its result, as the papers' Fig. 8 draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from reuse_compiler.calibration.report import LayerCalibration, Measurement
from reuse_compiler.reports.calibration_words import errors_words, parameters_words, settings_words
from reuse_compiler.reports.inline_svg import drawing, inline_svg, new_axes
from reuse_compiler.reports.markup import Markup
from reuse_compiler.reports.table import number
from reuse_compiler.reports.theme import length_roles, stand_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

MARKERS = {"learned": "o", "sign": "^", "pstable": "D", "exact": "s"}


def curve_chart(layer: LayerCalibration, index: int, lengths: Sequence[int]) -> Markup | None:
    """Draws one line per L, the chosen point marked; None if no measurement can be drawn (logarithms of zero).

    `index` numbers the layers of a page, `lengths` are all sub-vector lengths on it.
    """
    shown = [m for m in layer.measurements if _drawable(m)]
    if not shown:
        return None
    with drawing():
        axes = new_axes(300, 210)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _widen(axes, shown)
        for axis in (axes.xaxis, axes.yaxis):
            _plain_numbers(axis)
        axes.set_xlabel("remaining ratio r_c")
        axes.set_title("relative error")
        titles = _draw_lines(axes, shown, length_roles(list(lengths)))
        if layer.chosen is not None and _drawable(layer.chosen):
            axes.scatter(
                [layer.chosen.r_c], [layer.chosen.output_error], s=190, facecolor="none",
                edgecolor=stand_in("ink"), linewidth=1.8, zorder=4, gid="chosen",
            )  # fmt: skip
            titles["chosen"] = [f"chosen: {_measurement_words(layer.chosen)}"]
        label = f"Remaining ratio against the error of {len(shown)} ways to rewrite the layer"
        return inline_svg(axes, f"curve-{index}", label, titles)


def _drawable(m: Measurement) -> bool:
    return m.r_c > 0 and m.output_error > 0 and math.isfinite(m.output_error)


def _draw_lines(axes: Axes, shown: list[Measurement], roles: dict[int, str]) -> dict[str, list[str]]:
    """Draws the lines and returns what each mark tells, by the gid of those drawn together."""
    titles = {}
    for index, (kind, group) in enumerate(groupby(sorted(shown, key=_kind), key=_kind)):
        points = sorted(group, key=lambda m: m.r_c)
        length, layout, table, family = kind[:4]
        colour = stand_in(roles[length])
        place = [m.r_c for m in points], [m.output_error for m in points]
        axes.plot(*place, color=colour, linestyle="--" if table == "int8" else "-", zorder=2)
        axes.scatter(
            *place, s=26, marker=MARKERS[family], facecolor=stand_in("surface") if layout == "patch" else colour,
            edgecolor=colour, linewidth=1.4, zorder=3, gid=f"line-{index}",
        )  # fmt: skip
        titles[f"line-{index}"] = [_measurement_words(m) for m in points]
    return titles


def _kind(m: Measurement) -> tuple[Any, ...]:
    """Returns what the measurements of one line have in common."""
    s = m.settings
    return s.sub_vector_length, s.layout, s.table, s.family, s.scope, s.metric, s.capacity


def _measurement_words(m: Measurement) -> str:
    return (
        f"{parameters_words(m.settings)}, {settings_words(m.settings)}: r_c {number(m.r_c)}, "
        f"error {errors_words(m.output_error)}, {m.reuse_ms:.3g} ms (dense {m.dense_ms:.3g} ms)"
    )


def _widen(axes: Axes, shown: Sequence[Measurement]) -> None:
    """Gives the points room for their marks; a factor, as the axes are logarithmic."""
    for values, limits in (([m.r_c for m in shown], axes.set_xlim), ([m.output_error for m in shown], axes.set_ylim)):
        room = max((max(values) / min(values)) ** 0.09, 1.12)
        limits(min(values) / room, max(values) * room)


def _plain_numbers(axis: Axis) -> None:
    """Labels a logarithmic axis with numbers as people write them, enough of them where it is short."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axis.get_view_interval()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(x / 10 for x in range(10, 100))):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    axis.set_major_locator(FixedLocator(ticks[:: max(1, len(ticks) // 4)]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
