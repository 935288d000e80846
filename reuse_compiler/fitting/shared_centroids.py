"""Centroids of scope static that bring a layer's result closest to the original layer's: least squares.

With ids and weights fixed the result is linear in the centroids, and since all taps of a kernel share them there are
few unknowns. They are found by conjugate gradients, which need no matrix: rows are put together from centroids and
multiplied (`_Rows.results`), and what is missing is multiplied back and added up by code (`_Rows.by_code`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.fitting.vectors import Floats, Places, pixels_of_taps, usable_rows
from reuse_compiler.reference.vectors import block_weights
from reuse_compiler.reuse.geometry import Blocking

Doubles = NDArray[np.float64]

MIN_ROWS, MAX_ROWS = 2_048, 32_768
"""Bounds of the rows that are fitted to, whatever they cost."""
RIDGE = 1.0
"""Strength of the pull towards the centroids as they were, over what an average code's members pull."""
FEW_STEPS, MOST_STEPS = 1, 6
"""Steps of conjugate gradients: the first finds most of what is to be found, and early ends hold off noise."""
CHUNK = 4_096
"""Rows that are put together at a time."""


def centroid_rows(columns: int, outputs: int, products: float) -> int:
    """Returns how many rows are fitted to, for `products` multiply-adds of one pass over them."""
    return min(max(int(products / (columns * outputs)), MIN_ROWS), MAX_ROWS)


class CentroidFit:
    """Collects the codes behind rows of a layer whose clusters are static, and what it is to compute from them."""

    def __init__(self, blocking: Blocking, centroids: Floats, every: int) -> None:
        """Takes one row in `every` of those that are added; `centroids` `[B, 2^H, L]` are those to begin with."""
        self._every, self._centroids = every, centroids
        self._fit, self._check = (_Rows(blocking, centroids.shape[1]) for _ in range(2))

    def add(self, ids: NDArray[np.int32], places: Places, target: Floats, held_back: NDArray[np.bool_]) -> None:
        """Adds output pixels at `places` of a run with `ids` `[B, V]`, and results `[n, M]` of the original layer."""
        for rows, chosen in ((self._fit, ~held_back), (self._check, held_back)):
            own = np.flatnonzero(chosen)[:: self._every]
            if len(own):
                rows.add(ids, places[own], target[own])

    def include(self, other: CentroidFit) -> None:
        """Adds the rows of the other one, of which nothing may be asked any more."""
        self._fit.include(other._fit)
        self._check.include(other._check)

    def solve(self, weight: Floats, bias: Floats, draft: bool = False) -> tuple[Floats, float]:
        """Returns centroids for weights `[M, Ic/group, kh, kw]` and bias, and what they multiply the error by.

        They are found in MOST_STEPS at most, those of a `draft` in FEW_STEPS. The error is measured on the rows held
        back, on which the centroids are never worse than those to begin with.
        """
        fit, check, start = self._fit, self._check, self._centroids
        if not fit.count or not check.count:
            return start, 1.0
        fit.set_weights(weight)
        check.set_weights(weight)
        metric, counts = fit.metric(), fit.counts()
        strength = RIDGE * float(counts.mean())
        inverse, members = np.linalg.inv(metric), counts + strength
        change = np.zeros(start.shape)
        residual = fit.by_code(fit.missing(start, bias))
        ahead = direction = residual / members @ inverse
        size = float(np.vdot(residual, ahead))
        before = least = check.error(start, bias)
        best = start
        for _ in range(FEW_STEPS if draft else MOST_STEPS):
            products = fit.by_code(fit.results(direction.astype(np.float32))) + strength * (direction @ metric)
            curvature = float(np.vdot(direction, products))
            if not curvature > 0.0:
                break
            change += size / curvature * direction
            tried = (start + change).astype(np.float32)
            error = check.error(tried, bias)
            if not error < least:
                break
            best, least = tried, error
            residual -= size / curvature * products
            ahead = residual / members @ inverse
            size, former = float(np.vdot(residual, ahead)), size
            direction = ahead + size / former * direction
        return best, least / before if before > 0.0 else 1.0


class _Rows:
    """Codes of rows of the unfolded input, one for each tap and block, and the results wanted of them."""

    def __init__(self, blocking: Blocking, codes: int) -> None:
        self._blocking, self._codes = blocking, codes
        self._parts: list[NDArray[np.int32]] = []
        self._targets: list[Floats] = []
        self._panels: Floats | None = None

    @property
    def count(self) -> int:
        return sum(map(len, self._targets))

    def add(self, ids: NDArray[np.int32], places: Places, target: Floats) -> None:
        """Adds rows; those with vectors that have no code, or with a result that is not usable, are left out."""
        codes = self._codes_at(ids, places)
        usable = (codes <= self._codes).all(axis=(1, 2)) & usable_rows(target)
        # Blocks are numbered one after the other, each with a further code for taps outside the image.
        self._parts.append(codes[usable] + np.arange(codes.shape[2], dtype=np.int32) * (self._codes + 1))
        self._targets.append(target[usable])

    def include(self, other: _Rows) -> None:
        """Adds the rows of the other one."""
        self._parts += other._parts
        self._targets += other._targets

    def _codes_at(self, ids: NDArray[np.int32], places: Places) -> NDArray[np.int32]:
        """Returns codes `[n, taps, B]` at output pixels; 2^H outside the image, more of vectors without a code."""
        g = self._blocking.spec
        codes_of = np.where(ids < self._codes, ids, ids + 1).T
        if self._blocking.layout == "patch":
            return codes_of[places][:, None]
        image = codes_of.reshape(g.batch, g.in_height, g.in_width, len(ids))
        codes = np.full((len(places), g.taps, len(ids)), self._codes, np.int32)
        for tap, (inside, *pixels) in enumerate(pixels_of_taps(g, places)):
            codes[inside, tap] = image[tuple(pixels)]
        return codes

    def set_weights(self, weight: Floats) -> None:
        """Sets what the rows are multiplied with: panels `[groups, taps, blocks, L, M/group]`."""
        b = self._blocking
        shape = (b.spec.group, b.blocks_per_group, b.sub_vector_length, b.taps_per_block, b.spec.group_out_channels)
        self._panels = np.ascontiguousarray(block_weights(weight, b).reshape(shape).transpose(0, 3, 1, 2, 4))

    def metric(self) -> Doubles:
        """Returns `[B, L, L]`: what a change of a centroid does to the result at one tap, the mean of the taps."""
        assert self._panels is not None
        panels = self._panels.astype(np.float64)
        gram = np.einsum("gtblm,gtbkm->gblk", panels, panels) / self._blocking.taps_per_block
        gram = gram.reshape(-1, *gram.shape[2:])
        # Some more on the diagonal, for elements that hardly count, or not at all as those of short blocks.
        traces = np.trace(gram, axis1=1, axis2=2)[:, None, None] / gram.shape[2]
        result: Doubles = gram + (1e-3 * traces + 1e-30) * np.eye(gram.shape[2])
        return result

    def counts(self) -> Doubles:
        """Returns `[B, 2^H, 1]`: how often each code is read."""
        return self._without_outside(self._bins(np.concatenate(self._parts)))[:, :, None]

    def results(self, centroids: Floats) -> Floats:
        """Returns the products `[n, M]` of rows of these centroids `[B, 2^H, L]` with the weights."""
        table = np.pad(centroids, ((0, 0), (0, 1), (0, 0))).reshape(-1, centroids.shape[2])
        return np.concatenate([self._multiplied(table[codes]) for codes in self._chunks()])

    def missing(self, centroids: Floats, bias: Floats) -> Floats:
        """Returns what the results `[n, M]` lack."""
        lacking: Floats = np.concatenate(self._targets) - self.results(centroids) - bias
        return lacking

    def error(self, centroids: Floats, bias: Floats) -> float:
        """Returns the L2 norm of that."""
        return float(np.linalg.norm(self.missing(centroids, bias).astype(np.float64)))

    def by_code(self, results: Floats) -> Doubles:
        """Returns `[B, 2^H, L]`: results `[n, M]` multiplied with the transposed weights, and added up by code."""
        assert self._panels is not None
        groups, taps, blocks, length, outputs = self._panels.shape
        across = self._panels.reshape(groups, -1, outputs).transpose(0, 2, 1)
        sums, start = np.zeros((length, groups * blocks * (self._codes + 1))), 0
        for codes in self._chunks():
            rows = results[start : start + len(codes)].reshape(len(codes), groups, outputs).transpose(1, 0, 2)
            deltas = (rows @ across).reshape(groups, len(codes), taps, blocks, length).transpose(4, 1, 2, 0, 3)
            for own, element in zip(sums, deltas, strict=True):
                own += self._bins(codes, element)
            start += len(codes)
        return np.stack([self._without_outside(own) for own in sums], axis=2)

    def _chunks(self) -> Iterator[NDArray[np.int32]]:
        for part in self._parts:
            yield from (part[start : start + CHUNK] for start in range(0, len(part), CHUNK))

    def _multiplied(self, rows: Floats) -> Floats:
        """Returns the products `[n, M]` of rows `[n, taps, B, L]` with the weights."""
        assert self._panels is not None
        groups, taps, blocks, length, outputs = self._panels.shape
        own = (
            rows.reshape(len(rows), taps, groups, blocks * length).transpose(2, 0, 1, 3).reshape(groups, len(rows), -1)
        )
        products: Floats = own @ self._panels.reshape(groups, -1, outputs)
        return products.transpose(1, 0, 2).reshape(len(rows), -1)

    def _bins(self, codes: NDArray[np.int32], values: Floats | None = None) -> Doubles:
        weights = None if values is None else values.ravel()
        length = self._blocking.num_blocks * (self._codes + 1)
        return np.bincount(codes.ravel(), weights, length).astype(np.float64, copy=False)

    def _without_outside(self, bins: Doubles) -> Doubles:
        return bins.reshape(self._blocking.num_blocks, -1)[:, : self._codes]
