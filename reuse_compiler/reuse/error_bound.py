"""How large a layer's error can be at most: the error analysis of the inference paper (section IV, Eq. 2).

Deep reuse multiplies the weights with a row's centroids x_jc instead of the row x_j of the unfolded input. With
Err_c = sum_j ||x_jc - x_j||^2, the layer's own result is off by sum_j ||y_j - y_j0||^2 <= Err_c ||W||^2: Eq. 2 with
n = i. The norm is the spectral one, the smallest for which that holds for every input. Three things follow from what
a row and a layer are here (docs/operators.md, Terms):

* A row's neuron vectors share out its columns, so ||x_jc - x_j||^2 is the sum of its neuron vectors' squared residuals.
* In layout `channel` a pixel's vector is part of as many rows as there are taps that read it; so its residual is
  measured once and counted as often. No unfolded input is built.
* Groups have weights of their own, so their bounds add up (squared).

What Eq. 2 multiplies with for later layers, and the sum of Eq. 3 over layers, describe a plain chain of layers. Here a
layer is judged on its own, on the original model's input, as is the measured error that the bound stands beside.
Rounding in float32 is not part of the bound, rounding to int8 tables is (`int8_error_bound`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from reuse_compiler.reuse.int8_tables import LARGEST_INT8_ENTRY, MOST_INT8_ROWS

Floats = NDArray[np.floating]
Float64s = NDArray[np.float64]


def squared_residuals(vectors: Floats, centroids: Floats, ids: NDArray[np.integer]) -> Float64s:
    """Returns ||centroid - vector||^2 for each vector of a block, float64 [V].

    `vectors` are [V, L], `centroids` [C, L], `ids` [V]. A layer's residuals are the sum over the blocks of a group.
    """
    residuals = vectors - centroids[ids]
    result: Float64s = np.einsum("vl,vl->v", residuals, residuals, dtype=np.float64)
    return result


def weight_norms(weights: Floats, group: int = 1) -> Float64s:
    """Returns the spectral norm of each group's matrix of weights [K, M/group]; `weights` are [M, Ic/group, kh, kw]."""
    kernels = weights.astype(np.float64).reshape(group, weights.shape[0] // group, -1)
    if kernels.shape[1] > kernels.shape[2]:
        kernels = kernels.transpose(0, 2, 1)
    gram = kernels @ kernels.transpose(0, 2, 1)
    result: Float64s = np.sqrt(np.linalg.eigvalsh(gram)[:, -1].clip(min=0.0))
    return result


def layer_error_bound(
    norms: Float64s, residuals: Float64s, blocking: Blocking, dense_norm: float, table_error: float = 0.0
) -> float:
    """Returns the bound for the relative L2 error of the layer's result: sqrt(Err_c) ||W|| / ||Y||.

    `norms` are `weight_norms` [group]; `residuals` [group, V] sum `squared_residuals` over the blocks of each group;
    `dense_norm` is the L2 norm of the dense layer's result, `table_error` what `int8_error_bound` gives.
    """
    errors = (residuals * _rows_of_vectors(blocking)).sum(axis=1)
    bound = float(np.sqrt((errors * norms**2).sum())) + table_error
    if bound == 0.0:
        return 0.0
    return bound / dense_norm if dense_norm > 0.0 else float("inf")


def int8_error_bound(weights: Floats, largest_norms: Floats, blocking: Blocking) -> float:
    """Returns the most that rounding to int8 tables can add to the L2 error of the layer's result (not relative).

    `largest_norms` [B] are the norms of each block's longest centroid (or vector: no centroid is longer than all of its
    members). An output adds table entries that are each off by half a scale at most; scales are shared by as many
    blocks as docs/operators.md says.
    """
    columns = _column_norms(weights, blocking)
    bounds = columns * largest_norms.astype(np.float64).reshape(blocking.spec.group, -1, 1)
    together = MOST_INT8_ROWS // blocking.taps_per_block
    if together == 0:  # the run uses float32 tables instead
        return 0.0
    error = np.zeros(bounds[:, 0].shape)
    for first in range(0, blocking.blocks_per_group, together):
        same = bounds[:, first : first + together]
        error += same.max(axis=1) / LARGEST_INT8_ENTRY / 2.0 * same.shape[1] * blocking.taps_per_block
    return float(np.sqrt(blocking.spec.rows * (error**2).sum()))


def _column_norms(weights: Floats, blocking: Blocking) -> Float64s:
    """Returns the norm of a block's weights for an output channel, the largest over taps: [group, blocks, M/group]."""
    g = blocking.spec
    squares = weights.astype(np.float64) ** 2
    grouped = squares.reshape(g.group, g.group_out_channels, g.group_in_channels, *g.kernel)
    starts = [blocking.block_start(block) for block in range(blocking.blocks_per_group)]
    if blocking.layout == "patch":
        columns = grouped.transpose(0, 1, 3, 4, 2).reshape(g.group, g.group_out_channels, g.columns)
        sums = np.add.reduceat(columns, starts, axis=2)
    else:
        sums = np.add.reduceat(grouped, starts, axis=2).max(axis=(3, 4))
    return np.sqrt(sums).transpose(0, 2, 1)


def _rows_of_vectors(blocking: Blocking) -> Float64s:
    """Returns in how many rows of the unfolded input each of a block's vectors stands, float64 [V]."""
    g = blocking.spec
    if blocking.layout == "patch":
        return np.ones(blocking.vectors)
    counts = np.outer(reads(g, 0), reads(g, 1)).ravel()
    return np.tile(counts.astype(np.float64), g.batch)


def reads(spec: ConvSpec, axis: int) -> NDArray[np.int64]:
    """Returns how often each coordinate of an input axis is read: by so many pairs of output coordinate and tap."""
    outputs, size = (spec.out_height, spec.out_width)[axis], (spec.in_height, spec.in_width)[axis]
    origins = np.arange(outputs)[:, None] * spec.strides[axis] - spec.pads[axis]
    sources = (origins + np.arange(spec.kernel[axis]) * spec.dilations[axis]).ravel()
    return np.bincount(sources[(sources >= 0) & (sources < size)], minlength=size)
