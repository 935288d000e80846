"""Hyper-Cube clustering of the inference paper (section III-B1): bins of equal width along some dimensions."""

from __future__ import annotations

import numpy as np

from tools.similarity.clustering.base import Clustering
from tools.similarity.clustering.vectors import Ids, VectorSets

DEFAULT_DIMENSIONS = 8
"""D where the user gives none: B bins in each make up to B**8 clusters, most of which stay empty."""


class HyperCube(Clustering):
    """A vector's cluster is its bin `floor(B * (x - min) / (max - min))` in each of D dimensions.

    Minimum and maximum are those of the dimension over the set. The paper leaves open which dimensions are the
    "primary" ones; here they are those of the largest variance over the set.
    """

    name = "hypercube"
    effort = "bins"

    def __init__(self, dimensions: int = DEFAULT_DIMENSIONS) -> None:
        self._dimensions = dimensions

    def assign(self, sets: VectorSets, effort: float) -> Ids:
        bins = int(effort)
        count = min(self._dimensions, sets.vectors.shape[2])
        primary = np.argsort(-sets.vectors.var(axis=1, dtype=np.float64), axis=1, kind="stable")[:, :count]
        values = np.take_along_axis(sets.vectors, primary[:, None, :], axis=2).astype(np.float64)  # [U, n, D]
        low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
        extent = np.where(high > low, high - low, 1.0)
        cells = np.minimum(np.floor(bins * (values - low) / extent), bins - 1).astype(np.int64)
        ids = np.zeros(cells.shape[:2], np.int64)
        for dimension in range(count):
            # Numbered anew after each dimension, so that the numbers of cells never exceed 64 bits.
            ids = np.unique(ids * bins + cells[..., dimension], return_inverse=True)[1].reshape(ids.shape)
        return ids
