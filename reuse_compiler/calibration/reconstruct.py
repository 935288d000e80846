"""Reconstruction: weights and bias that make a layer with reuse come closest to the original layer (design section 5).

The layer computes from centroids, so its output has another mean and scale, and its weights are not the best ones for
its input any more. Both are corrected in closed form, by least squares from the reused unfolded input to the output of
the original layer, on unlabelled samples; the result is folded into weight and bias and costs nothing at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.calibration.options import Reconstruct

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

MOST_COLUMNS = 6_144
"""Layers with more columns get `statistics` in place of `weights`: their normal equations would take gigabytes."""
RIDGES = (1.0, 0.1, 0.01, 0.001)
"""Strengths of the pull towards the original weights, over the mean variance of a column; weaker ones are tried as
long as they make the error on the checked rows smaller."""
DOUBLE_COLUMNS = 2_048
"""Up to so many columns the equations are solved in float64; beyond, float32 takes half the time and is exact enough
with the pull."""
Solution = tuple[Doubles, Doubles]
"""Weights `[K, M]` and bias `[M]`."""
Solver = Callable[["Moments", Doubles], Solution]

CHUNK = 4_096
"""Rows whose products are summed in float32 before they go into the float64 sums."""


class Moments:
    """Streamed sums of the rows of a reused unfolded input `[n, K]` and of the original output `[n, M]`."""

    def __init__(self, columns: int, outputs: int) -> None:
        self.count = 0
        self._x, self._y = np.zeros(columns), np.zeros(outputs)
        self._xx, self._xy = np.zeros((columns, columns)), np.zeros((columns, outputs))
        self._yy = np.zeros(outputs)

    def add(self, x: Floats, y: Floats) -> None:
        """Adds rows that belong together; those with NaN or Inf do not count."""
        finite = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
        if not finite.all():
            x, y = x[finite], y[finite]
        for start in range(0, len(x), CHUNK):
            self._add(x[start : start + CHUNK], y[start : start + CHUNK])

    def _add(self, x: Floats, y: Floats) -> None:
        self.count += len(x)
        self._x += x.sum(axis=0, dtype=np.float64)
        self._y += y.sum(axis=0, dtype=np.float64)
        self._xx += x.T @ x
        self._xy += x.T @ y
        self._yy += np.square(y, dtype=np.float64).sum(axis=0)

    def plus(self, other: Moments) -> Moments:
        """Returns the sums of both."""
        total = Moments(len(self._x), len(self._y))
        total.count = self.count + other.count
        for name in ("_x", "_y", "_xx", "_xy", "_yy"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    @property
    def mean_x(self) -> Doubles:
        return self._x / self.count

    @property
    def mean_y(self) -> Doubles:
        return self._y / self.count

    def covariance(self) -> Doubles:
        """Covariance `[K, K]` of the columns."""
        return self._xx / self.count - np.outer(self.mean_x, self.mean_x)

    def cross_covariance(self) -> Doubles:
        """Covariance `[K, M]` of columns and outputs."""
        return self._xy / self.count - np.outer(self.mean_x, self.mean_y)

    def variance_y(self) -> Doubles:
        """Variance `[M]` of the outputs."""
        return np.maximum(self._yy / self.count - np.square(self.mean_y), 0.0)

    def relative_error(self, weight: Doubles, bias: Doubles) -> float:
        """Returns |x W + b - y| / |y| over all rows, in the L2 norm."""
        spread = np.einsum("km,km->m", weight, self.covariance() @ weight)
        spread += self.variance_y() - 2.0 * np.einsum("km,km->m", weight, self.cross_covariance())
        shift = np.square(self.mean_x @ weight + bias - self.mean_y)
        total = float(np.square(self.mean_y).sum() + self.variance_y().sum())
        return float(np.sqrt(max(float((spread + shift).sum()), 0.0) / total)) if total > 0.0 else 0.0


@dataclass(frozen=True)
class Reconstruction:
    """Weights `[K, M]` and bias `[M]` of a group, and the relative error on rows for checking before and after."""

    weight: Floats
    bias: Floats
    error_as_is: float
    error: float


def reconstruct(fit: Moments, check: Moments, weight: Floats, bias: Floats, how: Reconstruct) -> Reconstruction:
    """Returns the best weights and bias for rows like those of `fit`.

    What is tried is judged on `check`, so that nothing is changed where it would not help on other data; the final
    weights use both. The errors are those on `check` of weights fitted without it.
    """
    own_weight, own_bias = weight.astype(np.float64), bias.astype(np.float64)
    as_is = check.relative_error(own_weight, own_bias)
    best, error = _best_solver(fit, check, own_weight, how)
    if best is None or error >= as_is:
        return Reconstruction(weight, bias, as_is, as_is)
    new_weight, new_bias = best(fit.plus(check), own_weight)
    return Reconstruction(new_weight.astype(np.float32), new_bias.astype(np.float32), as_is, error)


def _best_solver(fit: Moments, check: Moments, weight: Doubles, how: Reconstruct) -> tuple[Solver | None, float]:
    """Returns the solver whose solution for `fit` has the smallest error on `check`, and that error."""
    if how == "none":
        return None, np.inf
    best: Solver = _rescaled
    error = check.relative_error(*_rescaled(fit, weight))
    if how == "statistics" or len(weight) > MOST_COLUMNS:
        return best, error
    for ridge in RIDGES:
        solver: Solver = partial(_refitted, ridge=ridge)
        found = check.relative_error(*solver(fit, weight))
        if found >= error and best is not _rescaled:
            break
        if found < error:
            best, error = solver, found
    return best, error


def _rescaled(moments: Moments, weight: Doubles) -> Solution:
    """Gives each output channel the mean and deviation that it has in the original layer."""
    variance = np.einsum("km,km->m", weight, moments.covariance() @ weight)
    usable = variance > 1e-6 * moments.variance_y()  # a channel that hardly varies any more cannot be stretched
    scale = np.sqrt(np.where(usable, moments.variance_y(), 1.0) / np.where(usable, variance, 1.0))
    return _with_bias(moments, weight * scale)


def _refitted(moments: Moments, weight: Doubles, ridge: float) -> Solution:
    """Least squares with a pull towards the given weights, whose strength is `ridge` times a column's mean variance."""
    covariance = moments.covariance()
    missing = moments.cross_covariance() - covariance @ weight
    strength = ridge * float(np.trace(covariance)) / len(covariance)
    if strength <= 0.0:
        return _with_bias(moments, weight)
    covariance[np.diag_indices_from(covariance)] += strength
    kind = np.float64 if len(covariance) <= DOUBLE_COLUMNS else np.float32
    change = np.linalg.solve(covariance.astype(kind, copy=False), missing.astype(kind, copy=False))
    return _with_bias(moments, weight + change)


def _with_bias(moments: Moments, weight: Doubles) -> Solution:
    """Adds the bias that makes the mean outputs right."""
    return weight, moments.mean_y - moments.mean_x @ weight
