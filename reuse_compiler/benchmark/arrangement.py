"""Where distinct vectors stand in an image: next to their like as in images, or anywhere. Knows labels, not values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.benchmark.case import Order
from reuse_compiler.reuse.geometry import Blocking, ConvSpec

Labels = NDArray[np.int64]
PADDING = -1
"""Label of what lies outside the image."""
SQUARENESS = 0.02
"""How much a cell's aspect counts against hitting the number of distinct windows, both as logarithms."""


def pixel_labels(rng: np.random.Generator, spec: ConvSpec, count: int, order: Order) -> Labels:
    """Returns labels [N*H*W] that take each of the values 0..count-1, about equally often.

    local: equal labels form about square, flat areas whose grid is shifted at random; random: they are shuffled.
    """
    pixels = spec.pixels
    labels = np.arange(pixels) * count // pixels
    if order == "random":
        return rng.permutation(labels)
    image, row, column = np.unravel_index(np.arange(pixels), (spec.batch, spec.in_height, spec.in_width))
    side = max(1, round(math.sqrt(pixels / count)))
    # Pixels in the order of squares of `side`: an interval of that order is about a square.
    walk = np.lexsort((column % side, row % side, column // side, row // side, image))
    placed = np.empty(pixels, np.int64)
    placed[walk] = labels
    images = placed.reshape(spec.batch, spec.in_height, spec.in_width)
    shift = (int(rng.integers(side)), int(rng.integers(side)))
    return np.roll(images, shift, axis=(1, 2)).reshape(-1)


@dataclass(frozen=True)
class Cells:
    """An image of equal rectangles of `height` x `width` pixels.

    local: each is flat and unlike all others. random: each is the same texture, all of whose pixels differ.
    """

    height: int
    width: int
    order: Order

    def labels(self, spec: ConvSpec) -> Labels:
        """Returns the label of each pixel, [N, H, W]."""
        rows = axis_labels(spec.in_height, self.height, self.order)
        columns = axis_labels(spec.in_width, self.width, self.order)
        one = rows[:, None] * (int(columns.max()) + 1) + columns[None, :]
        images = np.arange(spec.batch) if self.order == "local" else np.zeros(spec.batch, np.int64)
        return images[:, None, None] * (int(one.max()) + 1) + one


def axis_labels(size: int, cell: int, order: Order) -> Labels:
    """Returns the labels of one axis of `size` pixels."""
    positions = np.arange(size)
    return positions // cell if order == "local" else positions % cell


def find_cells(blocking: Blocking, count: int, order: Order) -> Cells:
    """Returns the cells with which the blocks of the patch layout have `count` distinct windows, or nearly so.

    A window is known by the labels that its rows and columns read, so the distinct windows are the product of the
    axes' (but for windows that differ only in which way they leave the image).
    """
    g = blocking.spec
    images = g.batch if order == "local" else 1
    taps = [_taps(blocking, block) for block in range(blocking.blocks_per_group)]

    @cache
    def distinct(axis: int, cell: int) -> NDArray[np.int64]:
        return np.array([_distinct_on_axis(g, axis, cell, order, pair[axis]) for pair in taps])

    def distance(height: int, width: int) -> float:
        windows = images * float((distinct(0, height) * distinct(1, width)).mean())
        return abs(math.log(windows / count)) + SQUARENESS * abs(math.log(height / width))

    pairs = [(height, width) for height in range(1, g.in_height + 1) for width in range(1, g.in_width + 1)]
    return Cells(*min(pairs, key=lambda pair: distance(*pair)), order)


def _taps(blocking: Blocking, block: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the kernel rows and columns that a block's columns of the unfolded input read."""
    g = blocking.spec
    start = blocking.block_start(block)
    taps = np.arange(start, start + blocking.block_length(block)) // g.group_in_channels
    return tuple(np.unique(taps // g.kernel[1]).tolist()), tuple(np.unique(taps % g.kernel[1]).tolist())


def _distinct_on_axis(g: ConvSpec, axis: int, cell: int, order: Order, taps: tuple[int, ...]) -> int:
    size, outputs = (g.in_height, g.in_width)[axis], (g.out_height, g.out_width)[axis]
    starts = np.arange(outputs) * g.strides[axis] - g.pads[axis]
    positions = starts[:, None] + np.array(taps)[None, :] * g.dilations[axis]
    inside = (positions >= 0) & (positions < size)
    labels = axis_labels(size, cell, order)[np.clip(positions, 0, size - 1)]
    return len(np.unique(np.where(inside, labels, PADDING), axis=0))
