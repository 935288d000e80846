"""Reconstruction: weights and bias that make a layer with reuse come closest to the original layer.

The layer computes from centroids, so its output has another mean and scale, and its weights are not the best ones for
its input any more. Both are corrected in closed form, by least squares from the reused unfolded input to the output of
the original layer, on unlabelled samples; the result is folded into weight and bias and costs nothing at run time.
Then the centroids of scope static are fitted to these weights (`shared_centroids.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.fitting.shared_centroids import CentroidFit, centroid_rows
from reuse_compiler.fitting.vectors import Floats, Places, choose_places, reused_rows, usable_rows
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from reuse_compiler.reuse.seeds import layer_generator

Doubles = NDArray[np.float64]
Reconstruct = Literal["none", "statistics", "weights"]

MOST_COLUMNS = 6_144
"""Layers with more columns get `statistics` in place of `weights`: their normal equations would take gigabytes."""
DEFAULT_PRODUCTS = 2e11
"""Multiply-adds that the normal equations of a layer's weights may take: few columns get many rows."""
CENTROIDS_SHARE = 1 / 40
"""Share of these that one of a dozen passes over the rows may take to which static centroids are fitted."""
ROWS_PER_COLUMN = 2
"""Rows that weights are refitted to at least, over the unfolded input's columns."""
MIN_ROWS, MAX_ROWS = 8_192, 131_072
"""Bounds of the rows, whatever the layer's columns."""
CHECKED_SHARE = 4
"""One run in so many, at least one (or one row, if there is one run only), judges reconstructions."""
RIDGES = (1.0, 0.1, 0.01, 0.001)
"""Strengths of the pull towards the original weights, over the mean variance of a column; weaker ones are tried as
long as they make the error on the checked rows smaller."""
FEW_COLUMNS = 2_048
"""Up to so many columns the equations are summed up and solved in float64; beyond, float32 takes half the time and
memory, and is exact enough with the pull. Drafts of layers beyond try the strongest pull only: of few rows it is the
best, or nearly."""
SOLVED_COLUMNS = 384
"""Columns that are eliminated at a time, so that most of the work is products of matrices."""
Solution = tuple[Doubles, Doubles]
"""Weights `[K, M]` and bias `[M]`."""
Solver = Callable[["Moments", Doubles], Solution]

CHUNK = 4_096
"""Rows whose products are summed in float32 before they go into the float64 sums."""
ROWS = 512
"""Rows of a square matrix that are changed at a time."""


class Moments:
    """Streamed moments of the rows of a reused unfolded input `[n, K]` and of the original output `[n, M]`.

    Rows are multiplied after their mean is taken off: a small variance would drown in the products of a large mean.
    """

    def __init__(self, columns: int, outputs: int) -> None:
        self.count = 0
        self.mean_x, self.mean_y = np.zeros(columns), np.zeros(outputs)
        # Sums of products of deviations from the means.
        self._xx = np.zeros((columns, columns), np.float64 if columns <= FEW_COLUMNS else np.float32)
        self._xy, self._yy = np.zeros((columns, outputs)), np.zeros(outputs)
        self._products: tuple[Doubles, NDArray[Any]] | None = None
        """Weights that were multiplied last, and what came out."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Leaves the zeros out of a pickle where there are no rows yet."""
        return super().__reduce_ex__(protocol) if self.count else (Moments, self._xy.shape)

    def add(self, x: Floats, y: Floats) -> None:
        """Adds rows that belong together; those that are not usable do not count."""
        usable = usable_rows(x) & usable_rows(y)
        if not usable.all():
            x, y = x[usable], y[usable]
        for start in range(0, len(x), CHUNK):
            self._add(x[start : start + CHUNK], y[start : start + CHUNK])

    def _add(self, x: Floats, y: Floats) -> None:
        mean_x, mean_y = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
        x, y = x - mean_x.astype(np.float32), y - mean_y.astype(np.float32)
        squares = np.square(y, dtype=np.float64).sum(axis=0)
        self._merge(len(x), mean_x, mean_y, x.T @ x, x.T @ y, squares)

    def include(self, other: Moments) -> None:
        """Adds the rows of the other moments, of which nothing may be asked any more."""
        if not self.count:
            self.__dict__.update(other.__dict__)
        elif other.count:
            self._merge(other.count, other.mean_x, other.mean_y, other._xx, other._xy, other._yy)

    def _merge(
        self, count: int, mean_x: Doubles, mean_y: Doubles, xx: NDArray[Any], xy: NDArray[Any], yy: Doubles
    ) -> None:
        """Adds the moments of `count` further rows (Chan, Golub and LeVeque 1983)."""
        total = self.count + count
        x, y = mean_x - self.mean_x, mean_y - self.mean_y
        between = self.count * count / total
        self._products = None
        self._xx += xx
        self._xy += xy
        if between:
            for row in range(0, len(x), ROWS):  # the whole outer product would take as much memory as the sums
                own = slice(row, row + ROWS)
                self._xx[own] += np.outer(between * x[own], x)
            self._xy += np.outer(between * x, y)
        self._yy += yy + between * np.square(y)
        self.mean_x += x * (count / total)
        self.mean_y += y * (count / total)
        self.count = total

    def covariance(self) -> NDArray[Any]:
        """Covariance `[K, K]` of the columns."""
        return self._xx / self.count

    def mean_variance(self) -> float:
        """The mean over the columns."""
        return float(np.trace(self._xx, dtype=np.float64)) / (len(self._xx) * self.count)

    def products(self, weight: Doubles) -> NDArray[Any]:
        """Returns the covariance's products `[K, M]` with weights; asked for again, they are there."""
        if self._products is None or self._products[0] is not weight:
            self._products = weight, self._xx @ weight.astype(self._xx.dtype, copy=False) / self.count
        return self._products[1]

    def cross_covariance(self) -> Doubles:
        """Covariance `[K, M]` of columns and outputs."""
        return self._xy / self.count

    def variance_of(self, weight: Doubles) -> Doubles:
        """Variance `[M]` of the products with weights `[K, M]`."""
        variance: Doubles = np.einsum("km,km->m", weight, self.products(weight))
        return variance

    def variance_y(self) -> Doubles:
        """Variance `[M]` of the outputs."""
        return self._yy / self.count

    @property
    def energy(self) -> float:
        """|y|^2 over all rows."""
        return float((self._yy + self.count * np.square(self.mean_y)).sum())

    def relative_error(self, weight: Doubles, bias: Doubles) -> float:
        """Returns |x W + b - y| / |y| over all rows, in the L2 norm."""
        spread = (
            self.variance_of(weight) + self.variance_y() - 2.0 * np.einsum("km,km->m", weight, self.cross_covariance())
        )
        shift = np.square(self.mean_x @ weight + bias - self.mean_y)
        return _ratio(self.count * max(float((spread + shift).sum()), 0.0), self.energy)


@dataclass(frozen=True)
class Reconstruction:
    """Weights `[K, M]` and bias `[M]` of a group, and the relative error on rows for checking before and after."""

    weight: Floats
    bias: Floats
    error_as_is: float
    error: float
    energy: float
    """|y|^2 over those rows."""
    judged: tuple[Floats, Floats]
    """Weights and bias that the error is of: fitted without those rows."""


def overall_errors(groups: Sequence[Reconstruction]) -> tuple[float, float]:
    """Returns the relative errors of a layer of several groups, before and after."""
    energy = sum(group.energy for group in groups)
    before = sum(group.error_as_is**2 * group.energy for group in groups)
    after = sum(group.error**2 * group.energy for group in groups)
    return _ratio(before, energy), _ratio(after, energy)


def _ratio(squared_error: float, energy: float) -> float:
    return float(np.sqrt(squared_error / energy)) if energy > 0.0 else 0.0


def reconstruct(
    fit: Moments, check: Moments, weight: Floats, bias: Floats, how: Reconstruct, draft: bool = False
) -> Reconstruction:
    """Returns the best weights and bias for rows like those of `fit`.

    What is tried is judged on `check`, so that nothing is changed where it would not help on other data; the final
    weights use both, for which `fit` takes in `check`, unless they are a `draft`. The errors are those on `check` of
    weights fitted without it. Without rows nothing is changed.
    """
    as_given = (weight, bias)
    if not fit.count or not check.count:
        return Reconstruction(weight, bias, 0.0, 0.0, 0.0, as_given)
    own_weight, own_bias = weight.astype(np.float64), bias.astype(np.float64)
    as_is = check.relative_error(own_weight, own_bias)
    best = _best_solver(fit, check, own_weight, how, draft)
    if best is None or not best.error < as_is:
        return Reconstruction(weight, bias, as_is, as_is, check.energy, as_given)
    judged = _floats(best.solution)
    if draft:
        return Reconstruction(*judged, as_is, best.error, check.energy, judged)
    fit.include(check)
    return Reconstruction(*_floats(best.solver(fit, own_weight)), as_is, best.error, check.energy, judged)


@dataclass(frozen=True)
class LayerReconstruction:
    """Weights `[M, Ic/group, kh, kw]` and bias `[M]` of a layer, and the relative error before and after."""

    weight: Floats
    bias: Floats
    error_as_is: float
    error: float
    judged: tuple[Floats, Floats]
    """Weights and bias that the error after is of: fitted without the rows that it is measured on."""
    centroids: Floats | None
    """Those of scope static `[B, 2^H, L]`; None with another scope."""


class LayerFit:
    """Collects rows of a layer whose input is reused, and what it is to compute from them; then finds its weights.

    With scope static `centroids` `[B, 2^H, L]` are those that were fitted to its input. They are fitted to its result,
    too, where the weights are.
    """

    def __init__(
        self,
        blocking: Blocking,
        weight: Floats,
        bias: Floats,
        how: Reconstruct,
        centroids: Floats | None = None,
        products: float = DEFAULT_PRODUCTS,
    ) -> None:
        self._blocking = blocking
        self._spec = spec = blocking.spec
        self._how, self._centroids, self._centroid_fit = affordable(how, spec.columns), centroids, None
        if centroids is not None and self._how == "weights":
            wanted = centroid_rows(spec.columns, spec.out_channels, products * CENTROIDS_SHARE)
            every = max(1, reconstruction_rows(spec.columns, products) // wanted)
            self._centroid_fit = CentroidFit(blocking, centroids, every)
        self._weights, self._before = [unfolded_weight(weight, spec, group) for group in range(spec.group)], None
        self._biases = bias.reshape(spec.group, -1)
        if self._how == "statistics":
            # Only the layer's results matter, so that those take the place of the rows they are computed from.
            self._before = self._weights
            self._weights = [np.eye(spec.group_out_channels, dtype=np.float32)] * spec.group
        self._fit, self._check = ([Moments(*own.shape) for own in self._weights] for _ in range(2))

    def add(
        self,
        ids: NDArray[np.int32],
        centroids: Floats,
        places: Places,
        target: Floats,
        held_back: bool | None = None,
    ) -> None:
        """Adds output pixels at `places` of a run, and results `[n, M]` of the original layer there.

        The run's input is made of `centroids` `[B, C, L]` by `ids` `[B, V]`. A run that is `held_back` only judges what
        is tried; None: one row in CHECKED_SHARE does.
        """
        judges = (
            np.full(len(places), held_back) if held_back is not None else np.arange(len(places)) % CHECKED_SHARE == 0
        )
        reused = reused_rows(ids, centroids, self._blocking, places)
        for group, (rows, own) in enumerate(zip(reused, np.split(target, self._spec.group, axis=1), strict=True)):
            if self._before is not None:
                rows = rows @ self._before[group]
            for moments, chosen in ((self._fit[group], ~judges), (self._check[group], judges)):
                if chosen.any():
                    moments.add(rows[chosen], own[chosen])
        if self._centroid_fit is not None:
            self._centroid_fit.add(ids, places, target, judges)

    def include(self, other: LayerFit) -> None:
        """Adds the rows of the other one, of which nothing may be asked any more."""
        for own, more in zip((*self._fit, *self._check), (*other._fit, *other._check), strict=True):
            own.include(more)
        if self._centroid_fit is not None and other._centroid_fit is not None:
            self._centroid_fit.include(other._centroid_fit)

    def solve(self, draft: bool = False) -> LayerReconstruction:
        """Returns the best weights and bias, and centroids for them; nothing can be added any more.

        A `draft` does without what takes long and gains little.
        """
        parts = zip(self._fit, self._check, self._weights, self._biases, strict=True)
        groups = [reconstruct(*part, self._how, draft) for part in parts]
        weight, bias = self._joined([(group.weight, group.bias) for group in groups])
        as_is, error = overall_errors(groups)
        judged, centroids = self._joined([group.judged for group in groups]), self._centroids
        if self._centroid_fit is not None:
            centroids, share = self._centroid_fit.solve(*judged, draft)
            error *= share
        return LayerReconstruction(weight, bias, as_is, error, judged, centroids)

    def _joined(self, groups: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
        columns = [weight for weight, _ in groups]
        if self._before is not None:
            columns = [before @ own for own, before in zip(columns, self._before, strict=True)]
        return folded_weight(np.stack(columns), self._spec), np.concatenate([bias for _, bias in groups])


def reconstruction_rows(columns: int, products: float = DEFAULT_PRODUCTS) -> int:
    """Returns how many rows of an unfolded input with `columns` columns its weights are refitted to."""
    rows = max(int(products / columns**2), ROWS_PER_COLUMN * columns)
    return min(max(rows, MIN_ROWS), MAX_ROWS)


def places_of_run(
    layer: str, spec: ConvSpec, run: int, runs: int, seed: int, products: float = DEFAULT_PRODUCTS
) -> Places:
    """Returns the output pixels of a run that reconstruction looks at: the same ones every time."""
    count = -(-reconstruction_rows(spec.columns, products) // runs)
    return choose_places(layer_generator(seed + 1 + run, layer), spec.rows, count)


def unfolded_weight(weight: Floats, spec: ConvSpec, group: int) -> Floats:
    """Returns the weights of a group as `[K, M/group]`, rows in the order (kh, kw, c) of the unfolded input."""
    kernels = weight[group * spec.group_out_channels : (group + 1) * spec.group_out_channels]
    return kernels.transpose(2, 3, 1, 0).reshape(spec.columns, spec.group_out_channels)


def folded_weight(columns: Floats, spec: ConvSpec) -> Floats:
    """Returns weights `[M, Ic/group, kh, kw]` from `[groups, K, M/group]`: the inverse of `unfolded_weight`."""
    kernels = columns.reshape(spec.group, *spec.kernel, spec.group_in_channels, spec.group_out_channels)
    ordered = kernels.transpose(0, 4, 3, 1, 2).reshape(spec.out_channels, spec.group_in_channels, *spec.kernel)
    return np.ascontiguousarray(ordered, np.float32)


def affordable(how: Reconstruct, columns: int) -> Reconstruct:
    """Returns how a layer with so many columns is reconstructed where `how` is asked for."""
    return "statistics" if how == "weights" and columns > MOST_COLUMNS else how


@dataclass(frozen=True)
class _Judged:
    """A solver with its solution for the rows to fit to, and the error of that on those that judge."""

    solver: Solver
    solution: Solution
    error: float


def _best_solver(fit: Moments, check: Moments, weight: Doubles, how: Reconstruct, draft: bool) -> _Judged | None:
    """Returns the solver whose solution for `fit` has the smallest error on `check`."""
    if how == "none":
        return None

    def judge(solver: Solver, roughly: Solver) -> _Judged:
        solution = roughly(fit, weight)
        return _Judged(solver, solution, check.relative_error(*solution))

    best = rescaled = judge(_rescaled, _rescaled)
    ridges = RIDGES[:1] if draft and len(weight) > FEW_COLUMNS else RIDGES
    for ridge in ridges if how == "weights" else ():
        solver = partial(_refitted, ridge=ridge)
        found = judge(solver, partial(solver, exact=False))
        if found.error >= best.error and best is not rescaled:
            break
        if found.error < best.error:
            best = found
    return best


def _floats(solution: Solution) -> tuple[Floats, Floats]:
    weight, bias = solution
    return weight.astype(np.float32), bias.astype(np.float32)


def _rescaled(moments: Moments, weight: Doubles) -> Solution:
    """Gives each output channel the mean and deviation that it has in the original layer."""
    variance = moments.variance_of(weight)
    usable = variance > 1e-6 * moments.variance_y()  # a channel that hardly varies any more cannot be stretched
    scale = np.sqrt(np.where(usable, moments.variance_y(), 1.0) / np.where(usable, variance, 1.0))
    return _with_bias(moments, weight * scale)


def _refitted(moments: Moments, weight: Doubles, ridge: float, exact: bool = True) -> Solution:
    """Least squares with a pull towards the given weights, whose strength is `ridge` times a column's mean variance.

    Not `exact` is enough to tell strengths apart, and takes half the time.
    """
    strength = ridge * moments.mean_variance()
    if strength <= 0.0:
        return _with_bias(moments, weight)

    def pulled(kind: type[np.floating[Any]]) -> NDArray[Any]:
        covariance = moments.covariance().astype(kind, copy=False)
        covariance[np.diag_indices_from(covariance)] += strength
        return covariance

    missing = moments.cross_covariance() - moments.products(weight)
    kind = np.float64 if exact and len(missing) <= FEW_COLUMNS else np.float32
    try:
        change = _solved(pulled(kind), missing.astype(kind))
    except np.linalg.LinAlgError:  # what is rounded off can be more than a weak pull
        change = np.linalg.solve(pulled(np.float64), missing)
    return _with_bias(moments, weight + change)


def _solved(matrix: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Returns the solution of a positive definite system, in whose memory it works: Cholesky's, by blocks of columns.

    LAPACK's takes two to three times as long for thousands of columns. Raises LinAlgError if it is not definite.
    """
    size, inverses = len(matrix), list[NDArray[Any]]()
    blocks = [slice(start, min(start + SOLVED_COLUMNS, size)) for start in range(0, size, SOLVED_COLUMNS)]
    for own in blocks:
        inverse = np.linalg.inv(np.linalg.cholesky(matrix[own, own]))
        inverses.append(inverse)
        right[own] = inverse @ right[own]
        below = matrix[own.stop :, own] = matrix[own.stop :, own] @ inverse.T
        right[own.stop :] -= below @ right[own]
        rest = matrix[own.stop :, own.stop :]
        for row in range(0, len(rest), ROWS):  # what is below the diagonal
            rest[row : row + ROWS, : row + ROWS] -= below[row : row + ROWS] @ below[: row + ROWS].T
    for own, inverse in zip(reversed(blocks), reversed(inverses), strict=True):
        right[own] = inverse.T @ (right[own] - matrix[own.stop :, own].T @ right[own.stop :])
    return right


def _with_bias(moments: Moments, weight: Doubles) -> Solution:
    """Adds the bias that makes the mean outputs right."""
    return weight, moments.mean_y - moments.mean_x @ weight
