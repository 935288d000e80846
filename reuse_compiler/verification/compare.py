"""How far two tensors are apart, as one number: the relative L2 error, summed over any number of pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 16
"""Elements compared at a time, so that the float64 copies stay in the cache."""


class Difference:
    """Sums up expected and actual tensors; elements that are undefined (NaN, Inf) in the expected one do not count."""

    def __init__(self) -> None:
        self.max_abs_error = 0.0
        self.elements = 0
        self.differing = 0
        """Elements that are finite in both tensors and not equal."""
        self.undefined = 0
        """Elements that are not finite in the expected tensors."""
        self.broken = 0
        """Elements that are finite in the expected tensors but not in the actual ones."""
        self.squared_error = 0.0
        """Of the elements that are finite in both tensors."""
        self._squared_norm = 0.0
        self.smallest, self.largest = math.inf, -math.inf
        """Of the expected elements that are finite in both tensors."""

    def add(self, expected: NDArray[Any], actual: NDArray[Any]) -> None:
        """Adds a pair of equal shape."""
        if expected.shape != actual.shape:
            raise ValueError(f"cannot compare shapes {list(expected.shape)} and {list(actual.shape)}")
        expected, actual = expected.reshape(-1), actual.reshape(-1)
        for start in range(0, expected.size, CHUNK):
            part = slice(start, start + CHUNK)
            self._add(expected[part].astype(np.float64), actual[part].astype(np.float64))

    @property
    def rel_error(self) -> float:
        """||actual - expected|| / ||expected||; infinite if an element is broken or only the expected norm is zero."""
        if self.broken:
            return math.inf
        if self.squared_error == 0.0:
            return 0.0
        return math.sqrt(self.squared_error / self._squared_norm) if self._squared_norm else math.inf

    @property
    def psnr(self) -> float:
        """The peak signal-to-noise ratio of the elements that are finite in both tensors."""
        return psnr(self.squared_error, self.elements - self.undefined - self.broken, self.smallest, self.largest)

    def _add(self, expected: NDArray[np.float64], actual: NDArray[np.float64]) -> None:
        self.elements += expected.size
        with np.errstate(invalid="ignore", over="ignore"):
            error = actual - expected
            squares = _square(error), _square(expected)
        if not all(map(math.isfinite, squares)):  # an element is not finite, or huge
            defined = np.isfinite(expected)
            kept = defined & np.isfinite(actual)
            self.undefined += int(np.count_nonzero(~defined))
            self.broken += int(np.count_nonzero(defined)) - int(np.count_nonzero(kept))
            expected, error = expected[kept], actual[kept] - expected[kept]
            squares = _square(error), _square(expected)
        if error.size:
            self.max_abs_error = max(self.max_abs_error, float(error.max()), -float(error.min()))
            self.smallest = min(self.smallest, float(expected.min()))
            self.largest = max(self.largest, float(expected.max()))
        self.differing += int(np.count_nonzero(error))
        self.squared_error += squares[0]
        self._squared_norm += squares[1]


def _square(values: NDArray[np.float64]) -> float:
    """Returns the sum of the squares: without BLAS, whose threads wait for one another where processors are busy."""
    return float(np.einsum("i,i->", values, values))


def psnr(squared_error: float, count: int, smallest: float, largest: float) -> float:
    """Returns dB; the peak is the range of the expected values, or 1 if they lie in 0..1."""
    if squared_error == 0.0:
        return math.inf
    peak = 1.0 if smallest >= 0.0 and largest <= 1.0 else largest - smallest
    ratio = peak * peak * count / squared_error
    return 10.0 * math.log10(ratio) if ratio > 0.0 else -math.inf


def largest_error(differences: Mapping[str, Difference]) -> float:
    """Returns the largest relative error of several outputs, 0 of none."""
    return max((difference.rel_error for difference in differences.values()), default=0.0)
