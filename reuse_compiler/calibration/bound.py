"""The inference paper's error bound for a layer, on the input that its candidates were measured on."""

from __future__ import annotations

import numpy as np

from reuse_compiler.calibration.clusters import Clusterer
from reuse_compiler.fitting.vectors import Floats, lifted, neuron_vectors
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.reuse.error_bound import int8_error_bound, layer_error_bound, squared_residuals, weight_norms
from reuse_compiler.reuse.plan import LayerPlan


def error_bound(layer: ConvLayer, plan: LayerPlan, x: Floats, dense_norm: float) -> float:
    """Returns the bound (Eq. 2) for the relative L2 error of a layer's result on the input `x`.

    `dense_norm` is the L2 norm of the dense layer's result after its activation, which makes no error larger.
    """
    g = layer.spec
    blocking = plan.settings.blocking(g)
    ids, centroids = Clusterer(plan).ids_and_centroids(x)
    residuals = np.zeros((g.group, blocking.vectors))
    largest = np.zeros(blocking.num_blocks)
    for block, own in enumerate(neuron_vectors(lifted(x), blocking)):
        residuals[block // blocking.blocks_per_group] += squared_residuals(own, centroids[block], ids[block])
        largest[block] = np.sqrt(np.square(own, dtype=np.float64).sum(axis=1).max(initial=0.0))
    table_error = int8_error_bound(layer.weights, largest, blocking) if plan.settings.table == "int8" else 0.0
    return layer_error_bound(weight_norms(layer.weights, g.group), residuals, blocking, dense_norm, table_error)
