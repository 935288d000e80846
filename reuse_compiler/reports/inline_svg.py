"""Matplotlib figures as SVG inside a page: real text, the page's colours and fonts, no name twice in the document."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from reuse_compiler.errors import OutputError
from reuse_compiler.reports.markup import Markup
from reuse_compiler.reports.theme import stand_in, with_variables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

XLINK_HREF = "{http://www.w3.org/1999/xlink}href"


def check_drawing() -> None:
    """Raises OutputError if figures cannot be drawn here; to be called before long work that ends in a report."""
    try:
        import matplotlib.backends.backend_svg  # noqa: F401
    except ImportError as error:
        raise OutputError(
            "the report's figures need matplotlib: `pip install 'reuse-compiler[report]'`, or leave --report out"
        ) from error


def new_axes(width: float, height: float, left: float = 40) -> Axes:
    """Returns the axes of a new figure, in CSS pixels.

    Margins are fixed, so that figures side by side are aligned (and because matplotlib's own choice is slow).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), facecolor="none")
    figure.subplots_adjust(left / width, 36 / height, 1 - 14 / width, 1 - 26 / height)
    return figure.add_subplot()


@contextmanager
def drawing() -> Iterator[None]:
    """Draws in the page's style inside of the `with` block; raises OutputError without matplotlib."""
    check_drawing()
    import matplotlib

    ink, muted, grid = stand_in("ink"), stand_in("muted"), stand_in("grid")
    style: dict[Any, Any] = {
        "svg.fonttype": "none", "text.parse_math": False, "path.simplify": False, "font.size": 11, "text.color": ink,
        "axes.facecolor": "none", "axes.edgecolor": grid, "axes.spines.top": False, "axes.spines.right": False,
        "axes.labelcolor": muted, "axes.labelsize": 10.5, "axes.titlecolor": muted, "axes.titlesize": 10.5,
        "axes.titlelocation": "left", "axes.titlepad": 9, "axes.axisbelow": True, "axes.grid": True,
        "grid.color": grid, "grid.linewidth": 0.8, "lines.linewidth": 1.8,
    } | {
        f"{axis}tick.{name}": value
        for axis in "xy"
        for name, value in {
            "color": grid, "labelcolor": muted, "labelsize": 10, "major.size": 0, "minor.size": 0
        }.items()
    }  # fmt: skip
    with matplotlib.rc_context(style):
        yield


def inline_svg(axes: Axes, name: str, label: str, titles: Mapping[str, Sequence[str]]) -> Markup:
    """Returns the figure of `axes` as markup.

    `name` is unique in the page, `label` says what is seen. `titles` are shown when the pointer rests on a mark: for
    each artist (by its gid) one text per mark that it draws.
    """
    import matplotlib
    from matplotlib.figure import Figure

    assert isinstance(axes.figure, Figure)
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        axes.figure.savefig(
            stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    root = ElementTree.fromstring(stream.getvalue())
    _add_titles(root, titles)
    _drop_namespaces(root)
    for metadata in root.findall("metadata"):
        root.remove(metadata)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": label}
    return Markup(with_variables(_unique_names(root, name)))


def _add_titles(root: ElementTree.Element, titles: Mapping[str, Sequence[str]]) -> None:
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        texts = titles.get(group.get("id", ""))
        if texts is None:
            continue
        # Matplotlib defines a path once and uses it for every mark, unless there are too few marks for that.
        uses = [element for element in group.iter() if element.tag.endswith("}use")]
        marks = uses or [element for element in group.iter() if element.tag.endswith("}path")]
        for mark, text in zip(marks, texts, strict=True):
            ElementTree.SubElement(mark, "title").text = text


def _drop_namespaces(root: ElementTree.Element) -> None:
    """Inside an HTML page SVG has no prefixes."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        if XLINK_HREF in element.attrib:
            element.set("href", element.attrib.pop(XLINK_HREF))


def _unique_names(root: ElementTree.Element, name: str) -> str:
    """Returns the text of the drawing; of its ids those remain that something refers to, with `name` before them."""
    text = ElementTree.tostring(root, encoding="unicode")
    for element in root.iter():
        identity = element.get("id")
        if identity is None:
            continue
        if f'"#{identity}"' in text or f"url(#{identity})" in text:
            element.set("id", f"{name}-{identity}")
        else:
            del element.attrib["id"]
    for element in root.iter():
        for key, value in element.attrib.items():
            if value.startswith("#") and key == "href":
                element.set(key, f"#{name}-{value[1:]}")
            elif value.startswith("url(#"):
                element.set(key, f"url(#{name}-{value[5:]}")
    return ElementTree.tostring(root, encoding="unicode")
