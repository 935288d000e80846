"""The share of each layer in the convolutions' time, before and after: two stacked bars and their legend."""

from __future__ import annotations

from dataclasses import dataclass

from reuse_compiler.calibration.report import CalibrationReport, LayerCalibration
from reuse_compiler.reports.calibration_words import milliseconds, rewritten, times_as_fast
from reuse_compiler.reports.markup import Markup, join, tag
from reuse_compiler.reports.sections import key, section
from reuse_compiler.reports.theme import SERIES, variable


@dataclass(frozen=True)
class Share:
    """One piece of both bars: its name, the role of its colour, milliseconds before and after."""

    name: str
    role: str
    before: float
    after: float


def times_section(report: CalibrationReport) -> Markup | None:
    """Returns the section, None where no layer was timed."""
    pieces = shares(report.layers)
    total = sum(piece.before for piece in pieces)
    if total <= 0:
        return None
    after = sum(piece.after for piece in pieces)
    longest = max(total, after)
    bars = [_bar("Dense", [(piece, piece.before) for piece in pieces], total, longest)]
    ratio = ""
    if rewritten(report):
        bars.append(_bar("Reuse", [(piece, piece.after) for piece in pieces], after, longest))
        ratio = f", {times_as_fast(total, after)} together"
    legend = tag("ul", *map(_entry, pieces), class_="shares")
    caption = f"Each convolution measured alone{ratio}; what the model does besides is not in it."
    return section("Where the time goes", caption, tag("div", *bars, legend, class_="card"), id_="times")


def shares(layers: list[LayerCalibration]) -> list[Share]:
    """Returns the layers that take longest, each in a colour, in the order of the model, and the rest as one."""
    timed = [(layer, layer.chosen.dense_ms if layer.chosen else layer.dense_ms) for layer in layers]
    known = [(layer, before) for layer, before in timed if before is not None]
    longest = {id(layer) for layer, _ in sorted(known, key=lambda item: -item[1])[: len(SERIES)]}
    pieces: list[Share] = []
    rest: list[tuple[float, float]] = []
    for layer, before in known:
        after = layer.chosen.reuse_ms if layer.chosen else before
        if id(layer) in longest:
            pieces.append(Share(layer.name, SERIES[len(pieces)], before, after))
        else:
            rest.append((before, after))
    if rest:
        name = f"{len(rest)} other layer{'' if len(rest) == 1 else 's'}"
        pieces.append(Share(name, "rest", sum(b for b, _ in rest), sum(a for _, a in rest)))
    return pieces


def _bar(name: str, pieces: list[tuple[Share, float]], total: float, longest: float) -> Markup:
    segments = [
        tag("span", style=f"flex-grow:{time:.6g};background:{variable(piece.role)}",
            title=f"{piece.name}: {milliseconds(time)} ms, {time / total:.0%}")
        for piece, time in pieces
        if time > 0
    ]  # fmt: skip
    bar = tag("div", *segments, class_="bar", style=f"width:{100 * total / longest:.4g}%")
    label = tag("span", name, tag("strong", f"{milliseconds(total)} ms"), class_="bar-label")
    return tag("div", label, tag("div", bar), class_="bar-row")


def _entry(piece: Share) -> Markup:
    times = (
        f"{milliseconds(piece.before)} ms"
        if piece.before == piece.after
        else f"{milliseconds(piece.before)} → {milliseconds(piece.after)} ms"
    )
    return tag("li", key("square", piece.role, piece.name), join(tag("small", times)))
