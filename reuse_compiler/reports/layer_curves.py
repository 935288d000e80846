"""The layers' curves of remaining ratio against error, as small pictures side by side."""

from __future__ import annotations

from reuse_compiler.calibration.report import CalibrationReport, LayerCalibration
from reuse_compiler.reports.calibration_words import parameters_words, times_as_fast
from reuse_compiler.reports.curve_chart import curve_chart
from reuse_compiler.reports.markup import Markup, tag
from reuse_compiler.reports.sections import details, key, section
from reuse_compiler.reports.theme import length_roles

SHOWN = 24
"""Layers whose curves are seen at once; those that follow unfold."""
SHAPES = {"learned": "dot", "sign": "triangle", "pstable": "diamond", "exact": "square"}


def curves_section(report: CalibrationReport) -> Markup | None:
    """Returns the section, None where no layer was measured."""
    measured = [layer for layer in report.layers if layer.measurements]
    lengths = [m.settings.sub_vector_length for layer in measured for m in layer.measurements]
    drawn = [(layer, curve_chart(layer, index, lengths)) for index, layer in enumerate(measured, 1)]
    cards = [_card(layer, drawing) for layer, drawing in drawn if drawing is not None]
    if not cards:
        return None
    caption = (
        "Every way in which the layer was measured, one line per sub-vector length L; along a line the number of "
        "hashes H grows. Lower left is better. The circle is what was chosen."
    )
    more = cards[SHOWN:]
    hidden = details(f"{len(more)} more layers", tag("div", *more, class_="grid")) if more else None
    return section(
        "Remaining ratio against error",
        caption,
        _keys(measured, lengths),
        tag("div", *cards[:SHOWN], class_="grid"),
        hidden,
        id_="curves",
    )


def _card(layer: LayerCalibration, drawing: Markup) -> Markup:
    chosen = layer.chosen
    note = (
        "stays dense"
        if chosen is None
        else f"{parameters_words(chosen.settings)}, {times_as_fast(chosen.dense_ms, chosen.reuse_ms)}"
    )
    title = tag("h3", tag("span", layer.name, class_="name", title=layer.name), tag("small", note))
    return tag("div", title, drawing, class_=f"card curve {layer.decision}")


def _keys(layers: list[LayerCalibration], lengths: list[int]) -> Markup:
    """Returns the legend; of families, layouts and tables only where there is more than one."""
    settings = [m.settings for layer in layers for m in layer.measurements]
    keys = [key("line", role, f"L={length}") for length, role in length_roles(lengths).items()]
    families = [name for name in SHAPES if any(s.family == name for s in settings)]
    if len(families) > 1:
        keys += [key(SHAPES[name], "muted", name) for name in families]
    if len({s.layout for s in settings}) > 1:
        keys += [key("dot", "muted", "channel"), key("ring", "muted", "patch")]
    if len({s.table for s in settings}) > 1:
        keys += [key("line", "muted", "float tables"), key("dashes", "muted", "int8 tables")]
    return tag("p", *keys, class_="keys")
