"""Fits the trees of family `learned` to neuron vectors, block by block.

A difference counts by what it does to the layer's output: it is measured in the metric of the weights' Gram matrix. The
leaf whose split reduces that error most is split next, on one coordinate; short vectors are first rotated to the
principal axes of their block in that metric, which costs little to do at run time and tells them apart far better.

Thresholds of a coordinate are multiples of a power of two, of which they span at most 254, unless that joined values
where few occur: with such trees the kernels compare bytes (custom_ops/cpu/hash/byte_trees.cc).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat, zip_longest

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.errors import LibraryError
from reuse_compiler.processors import processors
from reuse_compiler.reuse.families.base import HashParameters
from reuse_compiler.runtime.library import load_library

Floats = NDArray[np.float32]

SPARE_DEPTH = 2
"""A tree has room for branches so much deeper than its leaves would need: errors are spread unevenly."""
LONGEST_ROTATED = 8
"""Largest L of rotated vectors: rotating costs L multiply-adds per element."""


def num_leaves(depth: int) -> int:
    """Returns how many clusters a tree makes at most: fewer than fit its depth (H)."""
    return int(2 ** max(1, depth - SPARE_DEPTH))


def is_rotated(length: int) -> bool:
    """Whether vectors of L = `length` are turned before their tree."""
    return 1 < length <= LONGEST_ROTATED


def fit_trees(
    vectors: Floats, weights: Floats, depths: Sequence[int], all_leaves: Sequence[bool] = ()
) -> list[HashParameters]:
    """Returns the trees of each depth for sampled vectors `[B, n, L]`, which `weights [B, L, T]` multiply.

    They have `num_leaves`, or where `all_leaves` says so as many as their depth has room for. Trees that are asked for
    together share what they have in common.
    """
    filled = zip_longest(depths, all_leaves, fillvalue=False)
    shapes = [(depth, 2**depth if full else num_leaves(depth)) for depth, full in filled]
    rotations = None
    importance = np.square(weights).sum(axis=2)
    if is_rotated(vectors.shape[2]):
        rotations = np.stack([rotation(*block) for block in zip(vectors, weights, strict=True)])
        vectors, importance = np.matmul(vectors, rotations), np.ones_like(importance)
    with ThreadPoolExecutor(processors()) as threads:
        blocks = list(threads.map(_fit_block, vectors, importance, repeat(shapes)))
    return [
        HashParameters(
            projections=rotations,
            coordinates=np.stack([trees[index][0] for trees in blocks]),
            thresholds=np.stack([trees[index][1] for trees in blocks]),
        )
        for index in range(len(depths))
    ]


def rotation(vectors: Floats, weights: Floats) -> Floats:
    """Returns `[L, L]` that turns `vectors [n, L]` to their principal axes, in the metric of `weights [L, T]`.

    A unit along any axis makes an error of the same size in the output.
    """
    energies, axes = np.linalg.eigh((weights @ weights.T).astype(np.float64))
    metric = axes * np.sqrt(np.maximum(energies, 0.0))
    seen = vectors @ metric
    seen -= seen.mean(axis=0)
    turned: Floats = (metric @ np.linalg.eigh(seen.T @ seen)[1]).astype(np.float32)
    return turned


Tree = tuple[NDArray[np.int32], Floats]
"""Coordinates and thresholds, each `[2^depth - 1]` in level order."""


def _fit_block(vectors: Floats, importance: Floats, wanted: Sequence[tuple[int, int]]) -> list[Tree]:
    """Returns a tree of each depth and number of leaves for finite `vectors [n, L]`."""
    vectors, importance = (np.ascontiguousarray(array, np.float32) for array in (vectors, importance))
    shapes = np.array(wanted, np.int64).T.copy()
    ends = np.cumsum(2 ** shapes[0] - 1)
    coordinates, thresholds = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.float32)
    v, i, d, n, c, t = (
        array.ctypes.data_as(ctypes.c_void_p) for array in (vectors, importance, *shapes, coordinates, thresholds)
    )
    count, length = vectors.shape
    if load_library().reuse_fit_trees(v, count, length, i, len(wanted), d, n, c, t) != 0:
        raise LibraryError(
            f"trees of (depth, leaves) {list(wanted)} cannot be fitted to {count} vectors of {length} elements"
        )
    return list(zip(np.split(coordinates, ends[:-1]), np.split(thresholds, ends[:-1]), strict=True))
