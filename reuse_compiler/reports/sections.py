"""The parts that sections of the page are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reuse_compiler.reports.markup import Markup, join, tag
from reuse_compiler.reports.theme import variable


def section(title: str, caption: str | None, *content: str | None, id_: str) -> Markup:
    """Returns a section of the page; `id_` lets one link to it."""
    words = None if caption is None else tag("p", caption, class_="caption")
    return tag("section", tag("h2", title), words, *content, id=id_)


DASH = Markup("–")
"""A cell in which nothing applies."""
WIDTHS = {"wide": 620, "narrow": 330}
"""CSS pixels of a drawing on large screens and on phones; the style sheet shows one of the two."""


def figure(keys: Markup, draw: Callable[[int], Markup | None]) -> Markup | None:
    """Returns a card with a legend and what `draw` draws at each of WIDTHS; None if it draws nothing."""
    drawings = [(name, draw(width)) for name, width in WIDTHS.items()]
    shown = [tag("div", drawing, class_=name) for name, drawing in drawings if drawing is not None]
    return tag("div", keys, *shown, class_="card") if shown else None


def key(shape: str, role: str, words: str) -> Markup:
    """Returns an entry of a legend: a shape of the style sheet (`dot`, `ring`, `line`, ...) in a role's colour."""
    return tag("span", tag("i", class_=f"mark {shape}", style=f"color:{variable(role)}"), words, class_="key")


def table(head: Sequence[str], rows: Sequence[Sequence[Markup]], classes: Sequence[str | None] = ()) -> Markup:
    """Returns a table that becomes a list of cards on a phone; the first column names the row."""
    titles = tag("thead", tag("tr", *(tag("th", title, scope="col") for title in head)))
    body = []
    for index, row in enumerate(rows):
        cells = [
            tag("td", cell, data_label=title, class_="none" if cell == DASH else None)
            for title, cell in zip(head[1:], row[1:], strict=True)
        ]
        body.append(tag("tr", tag("th", row[0], scope="row"), *cells, class_=classes[index] if classes else None))
    return tag("div", tag("table", titles, tag("tbody", *body)), class_="card scroll")


def details(summary: str, content: Markup) -> Markup:
    """Returns what unfolds at a click."""
    return tag("details", tag("summary", summary), content)


def definitions(values: dict[str, str]) -> Markup:
    """Returns a list of names and what they stand for."""
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in values.items()))
