"""Rows of a layer's unfolded input and pixels of its input, at places that are asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.reuse.geometry import ConvGeometry

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
"""Flat indices over (image, row, column)."""

LARGEST = 1e15
"""Sums over squares of larger values would leave the range of float32."""


def usable_rows(rows: Floats) -> NDArray[np.bool_]:
    """Returns which `rows [n, K]` can be fitted to: those without NaN, Inf or values beyond LARGEST."""
    return np.asarray((np.abs(rows) < LARGEST).all(axis=1))


def choose_places(rng: np.random.Generator, total: int, count: int) -> Places:
    """Returns `count` of `total` places at random, ascending; all of them if there are not so many."""
    if count >= total:
        return np.arange(total, dtype=np.int64)
    return np.sort(rng.choice(total, count, replace=False)).astype(np.int64)


def pixels_at(x: Floats, places: Places) -> Floats:
    """Returns the pixel vectors `[n, C]` of `x [N, C, H, W]` at places of (N, H, W)."""
    image, rest = np.divmod(places, x.shape[2] * x.shape[3])
    row, column = np.divmod(rest, x.shape[3])
    return np.ascontiguousarray(x[image, :, row, column])


def unfold_at(x: Floats, geometry: ConvGeometry, group: int, places: Places) -> Floats:
    """Returns rows `[n, K]` of a group's unfolded input of `x [N, Ic, H, W]`, columns (kh, kw, c).

    `places` are output pixels, of (N, Oh, Ow). Taps outside the image are zeros.
    """
    g = geometry
    image, rest = np.divmod(places, g.out_height * g.out_width)
    row, column = np.divmod(rest, g.out_width)
    channels = slice(group * g.group_in_channels, (group + 1) * g.group_in_channels)
    rows = np.zeros((len(places), g.taps, g.group_in_channels), np.float32)
    for tap in range(g.taps):
        y = row * g.strides[0] - g.pads[0] + tap // g.kernel[1] * g.dilations[0]
        z = column * g.strides[1] - g.pads[1] + tap % g.kernel[1] * g.dilations[1]
        inside = (y >= 0) & (y < g.in_height) & (z >= 0) & (z < g.in_width)
        rows[inside, tap] = x[image[inside], channels, y[inside], z[inside]]
    return rows.reshape(len(places), g.columns)
