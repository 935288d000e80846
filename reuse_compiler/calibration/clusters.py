"""The input of a layer as reuse sees it: every neuron vector replaced by the centroid of its cluster."""

from __future__ import annotations

import os

from reuse_compiler.fitting.centroids import codes_of, codes_plan
from reuse_compiler.fitting.vectors import Floats, Ids, Places, lifted, reused_rows
from reuse_compiler.reuse.plan import LayerPlan
from reuse_compiler.runtime.clustering import ClusteringPlan


class Clusterer:
    """Clusters a layer's inputs by the same kernels as the compiled model, with as many threads as there are cores."""

    def __init__(self, plan: LayerPlan) -> None:
        self._blocking = plan.settings.blocking(plan.spec)
        self._centroids = plan.centroids
        make = ClusteringPlan if plan.centroids is None else codes_plan
        self._plan = make(self._blocking, plan.settings, plan.parameters)

    def ids_and_centroids(self, x: Floats) -> tuple[Ids, Floats]:
        """Returns ids `[B, V]` and centroids `[B, C, L]` of an input as the model has it."""
        found = self._plan.clusters(lifted(x), os.cpu_count() or 1)
        if self._centroids is not None:
            return codes_of(found), self._centroids
        return found.ids, found.all_centroids()

    def reused_rows(self, x: Floats, places: Places) -> list[Floats]:
        """Returns, per group, rows `[n, K]` of the unfolded input with every vector replaced by its centroid."""
        return reused_rows(*self.ids_and_centroids(x), self._blocking, places)
