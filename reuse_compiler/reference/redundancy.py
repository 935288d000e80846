"""Operator Redundancy: how much of a tensor repeats, by sampled windows (docs/operators.md, Redundancy)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

GOLDEN_RATIO = 0x9E3779B97F4A7C15
"""Of 2^64."""
FRACTION_BITS = 20
FEWEST_VALUES = 64
"""Of a window, if there are enough channels: a few are often equal without all being so."""


def redundancy(
    x: npt.NDArray[np.float32],
    windows: Sequence[int],
    gains: Sequence[float],
    *,
    strides: Sequence[int] | None = None,
    threshold: float = 0.0,
    samples: int = 256,
    channels: int = 8,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Returns `enough []` and `shares [n]` of `x [N, C, W]` or `[N, C, H, W]`."""
    images = x[:, :, None] if x.ndim == 3 else x
    steps = [1] * len(windows) if strides is None else strides
    shares = np.array(
        [_share(images, *kind, samples, channels) for kind in zip(windows, steps, strict=True)], np.float32
    )
    gain = sum(float(np.float32(gain)) * float(share) for gain, share in zip(gains, shares, strict=True))
    return np.array(gain > float(np.float32(threshold))), shares


def _share(images: npt.NDArray[np.float32], window: int, stride: int, samples: int, channels: int) -> float:
    """Returns the share of all windows that are equal to one before them, as a sample tells."""
    batch, present, height, width = images.shape
    pixels = max(1, window * min(window, height))
    picked = min(max(channels, -(-FEWEST_VALUES // pixels)), present)
    images = images[:, [i * present // picked for i in range(picked)]]
    grid = (batch, -(-height // stride), -(-width // stride))
    positions = sampled_positions(int(np.prod(grid)), samples)
    if images.size == 0 or not positions:
        return 0.0
    # A window that reaches further than across the image holds nothing more but padding.
    before = [min(window // 2, size) for size in (height, width)]
    after = [min(window - window // 2, size) for size in (height, width)]
    padded = np.pad(images, ((0, 0), (0, 0), *zip(before, after, strict=True)))
    distinct: set[bytes] = set()
    in_half = 0
    half = positions[::2]
    for position in (*half, *positions[1::2]):
        image, row, column = (int(index) for index in np.unravel_index(position, grid))
        top, left = row * stride, column * stride
        if position == next(iter(positions[1::2]), None):
            in_half = len(distinct)
        distinct.add(padded[image, :, top : top + before[0] + after[0], left : left + before[1] + after[1]].tobytes())
    in_sample = len(distinct) / len(positions)
    if len(positions) == np.prod(grid) or not in_half:
        return 1 - in_sample
    # The number of distinct ones grows with a power of the number of windows.
    growth = math.log(len(distinct) / in_half) / math.log(len(positions) / len(half))
    return 1 - in_sample * math.pow(int(np.prod(grid)) / len(positions), min(growth, 1.0) - 1.0)


def sampled_positions(count: int, samples: int) -> list[int]:
    """Returns which of `count` positions are taken, in ascending order: one of each of equal stretches."""
    taken = min(count, samples)
    positions = []
    for k in range(taken):
        begin, end = k * count // taken, (k + 1) * count // taken
        fraction = (k * GOLDEN_RATIO % 2**64) >> (64 - FRACTION_BITS)
        positions.append(begin + (fraction * (end - begin) >> FRACTION_BITS))
    return positions
