"""The input of a layer as reuse sees it: every neuron vector replaced by the centroid of its cluster."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.fitting.vectors import Floats, Places, reused_rows
from reuse_compiler.graph.cut import cut_model
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.passes.lower_to_reuse import lower_to_reuse
from reuse_compiler.reuse.plan import LayerPlan
from reuse_compiler.runtime import session

IDS, CENTROIDS = "ids", "centroids"
"""What the staged form calls the tensors that operator Cluster writes, after the layer's name."""


class Clusterer:
    """Operators Hash and Cluster of a layer, run by the same kernels as the compiled model's."""

    def __init__(self, work: Workpiece, layer: ConvLayer, plan: LayerPlan) -> None:
        import onnxruntime

        self._layer = layer
        self._blocking = plan.settings.blocking(layer.spec)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 1
        staged = lower_to_reuse(work.alone(layer), {layer.name: plan}, "staged")
        model = cut_model(staged.model, [], [f"{layer.name}/{IDS}", f"{layer.name}/{CENTROIDS}"])
        self._session = session(model.SerializeToString(), None, options)

    def ids_and_centroids(self, x: Floats) -> tuple[NDArray[np.int32], Floats]:
        """Returns ids `[B, V]` and centroids `[B, C, L]` of an input as the model has it."""
        ids, centroids = self._session.run(None, {self._layer.input: x})
        return ids, centroids

    def reused_rows(self, x: Floats, places: Places) -> list[Floats]:
        """Returns, per group, rows `[n, K]` of the unfolded input with every vector replaced by its centroid."""
        return reused_rows(*self.ids_and_centroids(x), self._blocking, places)
