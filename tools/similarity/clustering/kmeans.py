"""K-means: the best clusters that the papers compare with, far too slow to save any work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tools.similarity.clustering.base import Clustering
from tools.similarity.clustering.vectors import Floats, Ids, VectorSets, sums_of

DEFAULT_ITERATIONS = 5
"""Lloyd iterations at most: later ones change r_c and accuracy by less than another seed does."""
DEFAULT_MAX_CLUSTERS = 2000
SEEDING_ROUNDS = 32
"""Rounds in which the first centres are drawn: up to so many clusters exactly as k-means++ draws them."""
CHUNK = 1 << 22
"""Distances that are held at a time."""


@dataclass(frozen=True)
class Step:
    """State after an assignment: ids [U, n] of the nearest centres, and the sum of squared distances to them."""

    ids: Ids
    inertia: float


class KMeans(Clustering):
    """Lloyd's algorithm from centres drawn as in k-means++, in all sets at once.

    The effort is the number of clusters in each set, or if below 1 their share in the set's vectors. Identical
    vectors are one vector with a weight. More than SEEDING_ROUNDS centres are drawn several at a time (k-means||).
    """

    name = "kmeans"
    effort = "clusters"

    def __init__(
        self, seed: int = 0, iterations: int = DEFAULT_ITERATIONS, max_clusters: int = DEFAULT_MAX_CLUSTERS
    ) -> None:
        self._seed, self._iterations, self._max_clusters = seed, iterations, max_clusters

    def clusters_of(self, effort: float, size: int) -> int:
        """Returns the number of clusters that are looked for among `size` vectors."""
        return min(size, max(1, round(effort * size) if effort < 1 else int(effort)))

    def refusal(self, effort: float, size: int) -> str | None:
        count = self.clusters_of(effort, size)
        if count <= self._max_clusters:
            return None
        return f"K-means with {count} clusters takes too long; at most {self._max_clusters} are looked for"

    def assign(self, sets: VectorSets, effort: float) -> Ids:
        *_, last = self.steps(sets, self.clusters_of(effort, sets.size))
        return last.ids

    def steps(self, sets: VectorSets, count: int) -> Iterator[Step]:
        """Yields the assignment to the first centres, and the one after each move of the centres."""
        # The zero point does not matter to distances; near the vectors, squares lose fewer digits.
        points = sets.vectors - sets.vectors.mean(axis=1, keepdims=True)
        rng = np.random.default_rng([self._seed, sets.block])
        centres = _draw_centres(points, sets.weights, count, rng)
        previous = None
        for _ in range(self._iterations + 1):
            ids, distances = _nearest(points, centres)
            yield Step(ids, float(np.einsum("un,un->", distances, sets.weights, dtype=np.float64)))
            if previous is not None and np.array_equal(ids, previous):
                return
            previous = ids
            centres = _means(points, sets.weights, ids, centres)


def _draw_centres(points: Floats, weights: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Returns centres [U, count, L], each a point drawn with probability as its weight times squared distance."""
    centres = points[:, :0]
    distances = np.ones_like(weights)
    per_round = max(1, -(-count // SEEDING_ROUNDS))
    while centres.shape[1] < count:
        drawn = _draw(distances * weights, min(per_round, count - centres.shape[1]), rng)
        new = np.take_along_axis(points, drawn[:, :, None], axis=1)
        nearest = _nearest(points, new)[1]
        distances = nearest if centres.shape[1] == 0 else np.minimum(distances, nearest)
        np.put_along_axis(distances, drawn, 0.0, axis=1)
        centres = np.concatenate([centres, new], axis=1)
    return centres


def _draw(weights: Floats, count: int, rng: np.random.Generator) -> Ids:
    """Draws `count` different indices per row, [U, count], with probabilities as `weights` [U, n]."""
    # The smallest of exponential variables divided by weights are a weighted draw without putting back.
    times = rng.exponential(size=weights.shape)
    times = np.where(weights > 0, times / np.where(weights > 0, weights, 1.0), np.inf)
    drawn: Ids = np.argpartition(times, count - 1, axis=1)[:, :count]
    return drawn


def _nearest(points: Floats, centres: Floats) -> tuple[Ids, Floats]:
    """Returns the nearest centre of each point and the squared distance to it, both [U, n]."""
    sets, size, _ = points.shape
    ids, scores = np.empty((sets, size), np.int64), np.empty((sets, size), np.float32)
    squares = np.einsum("ukl,ukl->uk", centres, centres)[:, None, :]
    turned = -2 * centres.transpose(0, 2, 1)
    step = max(1, CHUNK // centres.shape[1])
    step_sets = max(1, step // size)
    for first in range(0, sets, step_sets):
        some = slice(first, first + step_sets)
        for start in range(0, size, step):
            part = slice(start, start + step)
            values = np.matmul(points[some, part], turned[some])
            values += squares[some]
            best = values.argmin(axis=2)
            ids[some, part] = best
            scores[some, part] = np.take_along_axis(values, best[:, :, None], axis=2)[:, :, 0]
    distances = scores + np.einsum("unl,unl->un", points, points)
    return ids, np.maximum(distances, 0)


def _means(points: Floats, weights: Floats, ids: Ids, centres: Floats) -> Floats:
    """Returns the weighted means of the clusters; a cluster without members keeps its centre."""
    sets, count, length = centres.shape
    flat = (ids + np.arange(sets)[:, None] * count).reshape(-1)
    used = np.flatnonzero(weights.reshape(-1) > 0)
    order = used[np.argsort(flat[used], kind="stable")]
    kept, starts = np.unique(flat[order], return_index=True)
    mass = np.bincount(flat, weights.reshape(-1), minlength=sets * count)[kept]
    weighted = points if weights.max() == 1 else points * weights[:, :, None]
    means = centres.reshape(-1, length).copy()
    means[kept] = sums_of(weighted.reshape(-1, length), order, starts) / mass[:, None]
    return means.reshape(centres.shape)
