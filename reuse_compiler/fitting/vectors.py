"""Neuron vectors drawn from a layer's input at places that are asked for, and rows put together from centroids."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.reuse.geometry import Blocking, ConvSpec, Layout

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
"""Flat indices over (image, row, column): of input pixels in layout `channel`, of output pixels in layout `patch`."""

LARGEST = 1e15
"""Sums over squares of larger values would leave the range of float32."""


def lifted(tensor: Floats) -> Floats:
    """Returns a layer's input or result as `[N, C, H, W]`: a 1-D layer's gets a height of 1."""
    return tensor[:, :, None] if tensor.ndim == 3 else tensor


def usable_rows(rows: Floats) -> NDArray[np.bool_]:
    """Returns which `rows [n, K]` can be fitted to: those without NaN, Inf or values beyond LARGEST."""
    if rows.size and rows.min() > -LARGEST and rows.max() < LARGEST:  # mostly; NaN compares as false
        return np.ones(len(rows), np.bool_)
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


def vectors_at(x: Floats, spec: ConvSpec, layout: Layout, places: Places) -> Floats:
    """Returns whole neuron vectors of all groups: pixels `[n, Ic]`, or rows of the unfolded input `[n, groups*K]`."""
    if layout == "channel":
        return pixels_at(x, places)
    return np.concatenate([unfold_at(x, spec, group, places) for group in range(spec.group)], axis=1)


def all_places(spec: ConvSpec, layout: Layout) -> Places:
    """Returns every place that has a neuron vector."""
    return np.arange(spec.rows if layout == "patch" else spec.pixels)


def cut(vectors: Floats, blocking: Blocking) -> Floats:
    """Returns the blocks `[B, n, L]` of whole vectors; those of a short block end with zeros."""
    blocks = np.zeros((blocking.num_blocks, len(vectors), blocking.sub_vector_length), np.float32)
    for block in range(blocking.num_blocks):
        group = block // blocking.blocks_per_group
        start, length = group * blocking.group_width + blocking.block_start(block), blocking.block_length(block)
        blocks[block, :, :length] = vectors[:, start : start + length]
    return blocks


def neuron_vectors(x: Floats, blocking: Blocking) -> Floats:
    """Returns all neuron vectors of `x [N, Ic, H, W]`, `[B, V, L]`."""
    places = all_places(blocking.spec, blocking.layout)
    return cut(vectors_at(x, blocking.spec, blocking.layout, places), blocking)


def unfold_at(x: Floats, spec: ConvSpec, group: int, places: Places) -> Floats:
    """Returns rows `[n, K]` of a group's unfolded input of `x [N, Ic, H, W]`, columns (kh, kw, c).

    `places` are output pixels, of (N, Oh, Ow). Taps outside the image are zeros.
    """
    channels = slice(group * spec.group_in_channels, (group + 1) * spec.group_in_channels)
    rows = np.zeros((len(places), spec.taps, spec.group_in_channels), np.float32)
    for tap, (inside, image, y, z) in enumerate(pixels_of_taps(spec, places)):
        rows[inside, tap] = x[image, channels, y, z]
    return rows.reshape(len(places), spec.columns)


def pixels_of_taps(spec: ConvSpec, places: Places) -> Iterator[tuple[NDArray[np.bool_], Places, Places, Places]]:
    """Yields for each tap at which of the output pixels it lies inside the image, and the image, row and column there.

    `places` are output pixels, of (N, Oh, Ow).
    """
    image, rest = np.divmod(places, spec.out_height * spec.out_width)
    row, column = np.divmod(rest, spec.out_width)
    for tap in range(spec.taps):
        y = row * spec.strides[0] - spec.pads[0] + tap // spec.kernel[1] * spec.dilations[0]
        z = column * spec.strides[1] - spec.pads[1] + tap % spec.kernel[1] * spec.dilations[1]
        inside = (y >= 0) & (y < spec.in_height) & (z >= 0) & (z < spec.in_width)
        yield inside, image[inside], y[inside], z[inside]


def reused_rows(ids: NDArray[np.int32], centroids: Floats, blocking: Blocking, places: Places) -> list[Floats]:
    """Returns, per group, rows `[n, K]` of the unfolded input, made of centroids `[B, C, L]` by ids `[B, V]`."""
    g = blocking.spec
    if blocking.layout == "patch":
        return [_joined(group, ids[:, places], centroids, blocking) for group in range(g.group)]
    groups = [_joined(group, ids, centroids, blocking) for group in range(g.group)]
    pixels = groups[0] if g.group == 1 else np.concatenate(groups, axis=1)
    image = pixels.reshape(g.batch, g.in_height, g.in_width, g.in_channels).transpose(0, 3, 1, 2)
    return [unfold_at(image, g, group, places) for group in range(g.group)]


def _joined(group: int, ids: NDArray[np.int32], centroids: Floats, blocking: Blocking) -> Floats:
    """Returns the vectors `[n, group width]` that the blocks of a group make up."""
    joined = np.empty((ids.shape[1], blocking.group_width), np.float32)
    for index in range(blocking.blocks_per_group):
        block = group * blocking.blocks_per_group + index
        start, length = blocking.block_start(block), blocking.block_length(block)
        joined[:, start : start + length] = centroids[block, ids[block], :length]
    return joined
