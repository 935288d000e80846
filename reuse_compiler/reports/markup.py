"""HTML as a tree of function calls: text is escaped unless it is markup already, so that no name can break a page."""

from __future__ import annotations

import html

VOID = frozenset({"img", "meta", "br"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(element: str, /, *children: str | None, **attributes: str | None) -> Markup:
    """Returns an element; None stands for no child, no attribute. `class_` and `data_label`: class and data-label."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if element in VOID:
        return Markup(f"<{element}{written}>")
    return Markup(f"<{element}{written}>{join(*children)}</{element}>")


def join(*children: str | None) -> Markup:
    """Returns the children one after the other, what is not markup escaped."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(c) for c in children if c is not None))
