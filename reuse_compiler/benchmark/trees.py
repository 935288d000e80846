"""Trees of the family `learned` that tell every vector of a palette from every other, by median splits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Tree = tuple[NDArray[np.int32], Floats]
"""Coordinates and thresholds, each [2^H - 1]."""

MOST_STEPS = 254
"""Thresholds of a coordinate that are multiples of a power of two, at most so many of them apart, are compared as bytes
(custom_ops/cpu/simd/kernels.h, ByteTree)."""
STEPS_TRIED = 3
"""Powers of two that are tried, the finest first: of a coarser one fewer cuts have a multiple between their values."""


def fit_tree(palette: Floats, num_hashes: int) -> Tree:
    """Returns a tree for distinct vectors `palette` [C, L].

    Every node splits its members as evenly as their values allow, so that each gets a leaf of its own if C <= 2^H and
    the values of a coordinate do not repeat. Nodes of a single member send it left. Thresholds lie on a grid if one is
    found that costs no leaf.
    """
    spread = float(np.ptp(palette, axis=0).max())
    if spread > 0:
        # Thresholds span less than the values: half of it, or less.
        finest = int(np.ceil(np.log2(spread / MOST_STEPS))) - 1
        for exponent in range(finest, finest + STEPS_TRIED):
            tree = _fit(palette, num_hashes, np.float32(2.0**exponent))
            if tree is not None:
                return tree
    tree = _fit(palette, num_hashes, None)
    assert tree is not None
    return tree


def _fit(palette: Floats, num_hashes: int, step: np.float32 | None) -> Tree | None:
    """Returns the tree with thresholds that are multiples of `step`, or None if there is none."""
    nodes = 2**num_hashes - 1
    coordinates, thresholds = np.zeros(nodes, np.int32), np.full(nodes, np.inf, np.float32)
    least, most = np.full(palette.shape[1], np.inf), np.full(palette.shape[1], -np.inf)
    members: dict[int, NDArray[np.intp]] = {0: np.arange(len(palette))}
    for node in range(nodes):
        own = members.pop(node, None)
        if own is None or len(own) < 2:
            continue
        below = num_hashes - int(node + 1).bit_length()
        cut = median_split(palette[own], step, 2**below)
        if cut is None:
            return None
        coordinate, threshold = cut
        least[coordinate], most[coordinate] = min(least[coordinate], threshold), max(most[coordinate], threshold)
        if step is not None and most[coordinate] - least[coordinate] > MOST_STEPS * step:
            return None
        coordinates[node], thresholds[node] = coordinate, threshold
        right = palette[own, coordinate] > threshold
        members[2 * node + 1], members[2 * node + 2] = own[~right], own[right]
    return coordinates, thresholds


def median_split(vectors: Floats, step: np.float32 | None = None, leaves: int = 0) -> tuple[int, np.float32] | None:
    """Returns the coordinate and threshold that cut distinct `vectors` [n, L] most evenly.

    Among equally even cuts, that of the coordinate with the largest spread. With a `step`, the threshold is a multiple
    of it, and the cut leaves neither side more than `leaves` vectors if any cut can; None if there is no such cut.
    """
    ordered = np.sort(vectors, axis=0)
    count = len(ordered)
    below = np.arange(1, count)[:, None]
    low, high = ordered[:-1], ordered[1:]
    imbalance = np.abs(2 * below - count) // 2  # an odd count has two cuts that are equally good
    imbalance = np.where(high > low, imbalance, count)  # equal values cannot be told apart
    middle = np.float32(0.5) * low + np.float32(0.5) * high
    threshold = np.where((low <= middle) & (middle < high), middle, low)
    if step is not None:
        most = max(leaves - count / 2, imbalance.min())
        threshold = np.clip(np.rint(middle / step), np.ceil(low / step), np.ceil(high / step) - 1) * step
        imbalance = np.where((low <= threshold) & (threshold < high), imbalance, count)
        if imbalance.min() > most:
            return None
    best = imbalance.min(axis=0)
    candidates = np.flatnonzero(best == best.min())
    spread = ordered[-1] - ordered[0]
    coordinate = int(candidates[np.argmax(spread[candidates])])
    return coordinate, threshold[int(np.argmin(imbalance[:, coordinate])), coordinate]
