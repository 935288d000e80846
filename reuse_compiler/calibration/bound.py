"""The inference paper's error bound for a layer, on the input that its candidates were measured on."""

from __future__ import annotations

import numpy as np

from reuse_compiler.calibration.clusters import Clusterer
from reuse_compiler.calibration.fit import VectorSample
from reuse_compiler.calibration.layers import ConvLayer, Workpiece
from reuse_compiler.calibration.rows import Floats, pixels_at, unfold_at
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.error_bound import int8_error_bound, layer_error_bound, squared_residuals, weight_norms
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.geometry import Blocking


def error_bound(
    work: Workpiece, layer: ConvLayer, settings: LayerSettings, parameters: HashParameters, x: Floats, dense_norm: float
) -> float:
    """Returns the bound (Eq. 2) for the relative L2 error of a layer's result on the input `x`.

    `dense_norm` is the L2 norm of the dense layer's result after its activation, which makes no error larger.
    """
    g = layer.geometry
    blocking = Blocking(g, settings.layout, settings.sub_vector_length)
    ids, centroids = Clusterer(work, layer, settings, parameters).ids_and_centroids(x)
    residuals = np.zeros((g.group, blocking.vectors))
    largest = np.zeros(blocking.num_blocks)
    blocks = VectorSample(layer, _all_vectors(layer, settings, x), settings.layout, seed=0).blocks(blocking)
    for block, vectors in enumerate(blocks):
        residuals[block // blocking.blocks_per_group] += squared_residuals(vectors, centroids[block], ids[block])
        largest[block] = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1).max(initial=0.0))
    table_error = int8_error_bound(layer.weight, largest, blocking) if settings.table == "int8" else 0.0
    return layer_error_bound(weight_norms(layer.weight, g.group), residuals, blocking, dense_norm, table_error)


def _all_vectors(layer: ConvLayer, settings: LayerSettings, x: Floats) -> Floats:
    g, lifted = layer.geometry, layer.lift(x)
    if settings.layout == "patch":
        places = np.arange(g.rows)
        return np.concatenate([unfold_at(lifted, g, group, places) for group in range(g.group)], axis=1)
    return pixels_at(lifted, np.arange(g.batch * g.in_height * g.in_width))
