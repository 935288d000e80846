"""What reconstruction gains: each layer's error before and after it."""

from __future__ import annotations

from collections.abc import Sequence

from reuse_compiler.calibration.report import LayerCalibration
from reuse_compiler.reports.calibration_words import errors_words
from reuse_compiler.reports.inline_svg import drawing, inline_svg, new_axes
from reuse_compiler.reports.markup import Markup
from reuse_compiler.reports.theme import stand_in


def reconstruction_chart(layers: Sequence[LayerCalibration], width: int) -> Markup | None:
    """Draws each layer's error before and after reconstruction as a line between two dots, numbered in this order."""
    both = [
        (index, layer.error_as_is, layer.error_reconstructed)
        for index, layer in enumerate(layers, 1)
        if layer.error_as_is is not None and layer.error_reconstructed is not None
    ]
    if not both:
        return None
    with drawing():
        axes = new_axes(width, 62 + 22 * len(both), left=28)
        rows = range(len(both))
        before, after = [b for _, b, _ in both], [a for _, _, a in both]
        axes.hlines(rows, before, after, color=stand_in("rest"), linewidth=2.5, zorder=2)
        for name, values, role in (("before", before, "muted"), ("after", after, "reuse")):
            hollow = name == "before"
            axes.scatter(
                values, rows, s=44, facecolor=stand_in("surface" if hollow else role), edgecolor=stand_in(role),
                linewidth=1.6, zorder=3, gid=name,
            )  # fmt: skip
        axes.set_yticks(rows, [str(index) for index, _, _ in both])
        axes.set_ylim(len(both) - 0.4, -0.6)
        axes.set_xlim(0, 1.08 * max(*before, *after))
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=max(3, width // 90))
        axes.set_xlabel("relative error of the layer's result")
        titles = {
            "before": [f"{layers[i - 1].name}: {errors_words(b)} before" for i, b, _ in both],
            "after": [f"{layers[i - 1].name}: {errors_words(a)} after" for i, _, a in both],
        }
        return inline_svg(
            axes, f"reconstruction-{width}", "Error of each layer before and after reconstruction", titles
        )
