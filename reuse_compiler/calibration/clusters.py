"""The input of a layer as reuse sees it: every neuron vector replaced by the centroid of its cluster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.fitting.vectors import Floats, lifted
from reuse_compiler.processors import processors
from reuse_compiler.reuse.plan import LayerPlan
from reuse_compiler.runtime.clustering import ClusteringPlan


class Clusterer:
    """Clusters a layer's inputs by the same kernels as the compiled model, with as many threads as there are cores."""

    def __init__(self, plan: LayerPlan) -> None:
        blocking = plan.settings.blocking(plan.spec)
        self._plan = ClusteringPlan(blocking, plan.settings, plan.parameters, centroids=plan.centroids)

    def ids_and_centroids(self, x: Floats) -> tuple[NDArray[np.int32], Floats]:
        """Returns ids `[B, V]` and centroids `[B, C, L]` of an input as the model has it."""
        found = self._plan.clusters(lifted(x), processors())
        return found.ids, found.all_centroids()
