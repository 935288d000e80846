"""Ranges of L and H by the training paper's policies (section V-A)."""

from __future__ import annotations

import math

from reuse_compiler.reuse.geometry import ConvSpec

SMALLEST_REMAINING_RATIO = 0.01
"""The papers' observation behind Policy 2: r_c is always larger than this."""


def sub_vector_length_range(spec: ConvSpec, first_layer: bool) -> tuple[int, int]:
    """Policy 1 and Amendment 1: returns (L_min, L_max) in elements of a row of the unfolded input."""
    width = spec.kernel[1]
    smallest = width
    if not first_layer and width * width < 10:
        smallest = width * width
    largest = math.ceil(math.sqrt(spec.group_in_channels)) * width
    smallest = min(smallest, spec.columns)
    return smallest, max(smallest, min(largest, spec.columns))


def num_hashes_range(rows: int) -> tuple[int, int]:
    """Policy 2: returns (H_min, H_max), the smallest H with 2^H > 0.01 N and the largest with 2^H < N (at least 1)."""
    smallest = 1
    while 2**smallest <= SMALLEST_REMAINING_RATIO * rows:
        smallest += 1
    largest = smallest
    while 2 ** (largest + 1) < rows:
        largest += 1
    return smallest, largest
