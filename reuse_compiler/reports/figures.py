"""Figures and pictures of pages as data URLs: the colours and the style that all of them are drawn in.

They are drawn once, for light pages; on dark ones the style sheet turns brightness round and keeps the hues.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, SURFACE, REST = "#14181f", "#5b6573", "#d3d8de", "#ffffff", "#c3c9d1"
REUSE, GOOD, BAD = "#1f63d6", "#0b7a43", "#c2331f"
SERIES = ("#2a78d6", "#eb6834", "#1baf7a", "#eda100", "#d9679a", "#4a3aa7", "#4f7a1e", "#9c2f2f", "#3fa7b5")
"""What is told apart, such as layers."""
ORDERED = ("#d9820a", "#b95a8f", "#8250c4", "#2a78d6", "#12919a", "#2f8a3c")
"""What has an order, such as lengths, from the first to the last."""
STYLE: dict[Any, Any] = {
    # Text stays text, and the same figure is the same file every time.
    "svg.fonttype": "none", "svg.hashsalt": "reuse-compiler", "text.parse_math": False,
    "figure.facecolor": "none", "font.size": 11, "text.color": INK, "lines.linewidth": 1.8, "legend.frameon": False,
    "axes.facecolor": "none", "axes.edgecolor": GRID, "axes.spines.top": False, "axes.spines.right": False,
    "axes.labelcolor": MUTED, "axes.titlecolor": MUTED, "axes.titlesize": 11, "axes.titlelocation": "left",
    "axes.axisbelow": True, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8,
    "xtick.color": GRID, "xtick.labelcolor": MUTED, "xtick.major.size": 0, "xtick.minor.size": 0,
    "ytick.color": GRID, "ytick.labelcolor": MUTED, "ytick.major.size": 0, "ytick.minor.size": 0,
}  # fmt: skip
GOLDEN_ANGLE = 0.6180339887498949


class Picture(NamedTuple):
    """An image inside a page, and what it shows, for those who do not see it."""

    url: str
    alt: str


def draw(width: float, height: float, paint: Callable[[Figure], None], alt: str) -> Picture:
    """Returns what `paint` draws into a figure of that size, in CSS pixels at a font size of 11."""
    return Picture(_url("image/svg+xml", svg(width, height, paint)), alt)


def svg(width: float, height: float, paint: Callable[[Figure], None], surface: str = "none") -> bytes:
    """Returns the same as the text of an SVG file, on a surface of that colour."""
    import matplotlib
    from matplotlib.figure import Figure

    stream = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained", facecolor=surface)
        paint(figure)
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def make_logarithmic(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Makes the x or y axis of `values` logarithmic, of a decade at least, so that two of its numbers are labelled."""
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = min(values), max(values)
    room = max((high / low) ** 0.09, (10.0 * low / high) ** 0.5)
    limits = low / room, high * room
    getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(*limits)
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if limits[1] < 30 * limits[0] else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def pixels(picture: NDArray[np.uint8], alt: str) -> Picture:
    """Returns an RGB picture `[H, W, 3]`."""
    from PIL import Image  # matplotlib needs it, too

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return Picture(_url("image/png", stream.getvalue()), alt)


def cluster_colours(count: int) -> NDArray[np.uint8]:
    """Returns a colour for each id, `[count, 3]`, always the same: hues by the golden angle, three depths in turn."""
    from matplotlib.colors import hsv_to_rgb

    index = np.arange(count)
    saturation, value = np.array([0.50, 0.62, 0.74, 0.38]), np.array([0.92, 0.62, 0.78])
    hsv = np.stack([index * GOLDEN_ANGLE % 1.0, saturation[index // 3 % 4], value[index % 3]], axis=1)
    colours: NDArray[np.uint8] = np.rint(255.0 * hsv_to_rgb(hsv)).astype(np.uint8)
    return colours


def _url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
