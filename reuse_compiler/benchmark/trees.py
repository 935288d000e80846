"""Trees of the family `learned` that tell every vector of a palette from every other, by median splits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def fit_tree(palette: Floats, num_hashes: int) -> tuple[NDArray[np.int32], Floats]:
    """Returns (coordinates, thresholds), each [2^H - 1], of a tree for distinct vectors `palette` [C, L].

    Every node splits its members as evenly as their values allow, so that each gets a leaf of its own if C <= 2^H and
    the values of a coordinate do not repeat. Nodes of a single member send it left.
    """
    nodes = 2**num_hashes - 1
    coordinates, thresholds = np.zeros(nodes, np.int32), np.full(nodes, np.inf, np.float32)
    members: dict[int, NDArray[np.intp]] = {0: np.arange(len(palette))}
    for node in range(nodes):
        own = members.pop(node, None)
        if own is None or len(own) < 2:
            continue
        coordinate, threshold = median_split(palette[own])
        coordinates[node], thresholds[node] = coordinate, threshold
        right = palette[own, coordinate] > threshold
        members[2 * node + 1], members[2 * node + 2] = own[~right], own[right]
    return coordinates, thresholds


def median_split(vectors: Floats) -> tuple[int, np.float32]:
    """Returns the coordinate and threshold that cut distinct `vectors` [n, L] most evenly.

    Among equally even cuts, that of the coordinate with the largest spread.
    """
    ordered = np.sort(vectors, axis=0)
    count = len(ordered)
    below = np.arange(1, count)[:, None]
    imbalance = np.abs(2 * below - count) // 2  # an odd count has two cuts that are equally good
    imbalance = np.where(ordered[1:] > ordered[:-1], imbalance, count)  # equal values cannot be told apart
    best = imbalance.min(axis=0)
    spread = ordered[-1] - ordered[0]
    candidates = np.flatnonzero(best == best.min())
    coordinate = int(candidates[np.argmax(spread[candidates])])
    cut = int(np.argmin(imbalance[:, coordinate]))
    low, high = ordered[cut, coordinate], ordered[cut + 1, coordinate]
    middle = np.float32(low + (high - low) / 2)
    return coordinate, middle if low <= middle < high else low
