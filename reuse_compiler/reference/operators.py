"""The computation of each operator as functions of arrays; every function is the formula of docs/operators.md."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reuse_compiler.reference.vectors import block_weights, neuron_vectors
from reuse_compiler.reuse.activation import NO_ACTIVATION, Activation
from reuse_compiler.reuse.config import Metric, Scope
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.families.base import Array, array_module
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.reuse.int8_tables import (
    LARGEST_INT8_BOUND,
    LARGEST_INT8_ENTRY,
    MOST_INT8_ROWS,
    SMALLEST_INT8_BOUND,
)


@dataclass(frozen=True)
class Clusters:
    """Result of `cluster_vectors`: ids int32 [B, V], centroids [B, Cmax, L], counts int32 [B], and guarded vectors.

    `known` are those that took a kept cluster of scope session.
    """

    ids: Array
    centroids: Array
    counts: Array
    guarded: int
    known: int = 0


def hash_vectors(x: Array, blocking: Blocking, family: str, parameters: HashParameters) -> Array:
    """Operator Hash: returns codes int64 [B, V]."""
    xp = array_module(x)
    vectors = neuron_vectors(x, blocking)
    codes = xp.zeros(vectors.shape[:2], xp.int64)
    for block in range(blocking.num_blocks):
        length = blocking.block_length(block)
        codes[block] = FAMILIES[family].codes(vectors[block], parameters.block(block), length)
    return codes


def number_clusters(
    vectors: Any, codes: Any, vectors_per_unit: int, capacity: float, verify: bool, closed: Collection[int] = ()
) -> tuple[list[int], int, dict[int, int]]:
    """Returns the cluster of each vector of a block, numbered by first appearance, and how many were guarded.

    Also returns the shared clusters of the last scope unit, by code. Vectors of `closed` codes share none.
    """
    limit = max(1, math.ceil(float(capacity) * vectors_per_unit))  # in float64, as the kernels do
    finite = np.isfinite(vectors).all(axis=1)
    ids: list[int] = []
    count = guarded = shared = 0
    known: dict[int, tuple[int, bytes]] = {}  # the cluster of a code, and the bits that its members must have
    for index in range(len(codes)):
        if index % vectors_per_unit == 0:
            known, shared = {}, 0
        code, bits = int(codes[index]), vectors[index].tobytes() if verify else b""
        sharable = code not in closed and (verify or bool(finite[index]))
        if sharable and code in known and known[code][1] == bits:
            ids.append(known[code][0])
            continue
        if sharable and code not in known and shared < limit:
            known[code] = (count, bits)
            shared += 1
        else:
            guarded += 1
        ids.append(count)
        count += 1
    return ids, guarded, {code: number for code, (number, _) in known.items()}


def centroids_of(vectors: Any, ids: Any, metric: Metric, verify: bool) -> Any:
    """Returns the float32 centroids [C, L] of a block."""
    count = int(ids.max(initial=-1)) + 1
    if verify:
        first = np.unique(ids, return_index=True)[1]
        return vectors[first]
    members = np.bincount(ids, minlength=count).astype(np.float64)[:, None]
    exact = vectors.astype(np.float64)
    norms = np.sqrt((exact * exact).sum(axis=1))
    if metric == "angular":
        # A non-finite vector is alone in its cluster, whose centroid is the vector itself.
        scalable = np.isfinite(norms) & (norms > 0)
        exact = np.where(scalable[:, None], exact / np.where(scalable, norms, 1.0)[:, None], exact)
    sums = np.zeros((count, vectors.shape[1]), np.float64)
    np.add.at(sums, ids, exact)
    centroids = sums / members
    if metric == "angular":
        total_norms = np.zeros(count, np.float64)
        np.add.at(total_norms, ids, np.where(np.isfinite(norms), norms, 1.0))
        centroids = centroids * (total_norms[:, None] / members)
    return centroids.astype(np.float32)


def cluster_vectors(
    x: Array,
    codes: Array,
    blocking: Blocking,
    scope: Scope = "batch",
    capacity: float = 1.0,
    metric: Metric = "euclidean",
    verify: bool = False,
    given: Array | None = None,
) -> Clusters:
    """Operator Cluster. The loop over vectors runs on the host whatever module the arrays are of.

    `given` are the centroids of scope static. Scope session is `reference.session`.
    """
    xp = array_module(x)
    to_host = xp.asnumpy if xp is not np else np.asarray
    vectors, codes = to_host(neuron_vectors(x, blocking)), to_host(codes)
    if scope == "static":
        return _static_clusters(vectors, codes, blocking, to_host(given), xp)
    units = blocking.spec.batch if scope == "image" else 1
    vectors_per_unit = blocking.vectors // max(units, 1)
    ids = np.zeros((blocking.num_blocks, blocking.vectors), np.int32)
    rows, guarded = [], 0
    for block in range(blocking.num_blocks):
        numbers, beyond, _ = number_clusters(vectors[block], codes[block], vectors_per_unit, capacity, verify)
        ids[block] = numbers
        guarded += beyond
        rows.append(centroids_of(vectors[block], ids[block], metric, verify))
    return clusters_of(ids, rows, guarded, blocking, xp)


def _static_clusters(vectors: Any, codes: Any, blocking: Blocking, given: Any, xp: Any) -> Clusters:
    """Returns the given clusters; behind them, each vector that is not finite is one of its own."""
    if not bool(((codes >= 0) & (codes < given.shape[1])).all()):
        raise IndexError(f"codes must be 0 to {given.shape[1] - 1}, one for each given centroid")
    own = ~np.isfinite(vectors).all(axis=2)
    ids = np.where(own, given.shape[1] + np.cumsum(own, axis=1) - 1, codes).astype(np.int32)
    rows = [np.concatenate([given[block], vectors[block, own[block]]]) for block in range(blocking.num_blocks)]
    return clusters_of(ids, rows, int(own.sum()), blocking, xp)


def clusters_of(ids: Any, rows: Sequence[Any], guarded: int, blocking: Blocking, xp: Any) -> Clusters:
    """Returns the outputs of Cluster from the ids and each block's centroids."""
    counts = np.array([len(r) for r in rows], np.int32)
    centroids = np.zeros((blocking.num_blocks, max(1, counts.max(initial=0)), blocking.sub_vector_length), np.float32)
    for block, centroid in enumerate(rows):
        centroids[block, : len(centroid)] = centroid
    return Clusters(xp.asarray(ids), xp.asarray(centroids), xp.asarray(counts), guarded)


def centroid_gemm(centroids: Array, counts: Array, weights: Array, blocking: Blocking) -> Array:
    """Operator CentroidGemm: returns the table [B, Cmax, T]."""
    xp = array_module(centroids)
    if bool(((counts < 0) | (counts > centroids.shape[1])).any()):
        raise IndexError(f"counts must be 0 to {centroids.shape[1]}, the rows that centroids have per block")
    used = xp.arange(centroids.shape[1])[None, :] < xp.asarray(counts)[:, None]
    table = xp.matmul(centroids, block_weights(weights, blocking))
    return xp.where(used[:, :, None], table, xp.float32(0))


def quantise_table(centroids: Array, counts: Array, weights: Array, blocking: Blocking) -> Array | None:
    """Returns the table [B, Cmax, T] of int8 entries times their scales, or None if only float32 tables will do."""
    xp = array_module(centroids)
    blocks_per_scale = MOST_INT8_ROWS // blocking.taps_per_block
    if blocks_per_scale == 0:
        return None
    table = centroid_gemm(centroids, counts, weights, blocking)
    by_channel = (blocking.num_blocks, -1, blocking.taps_per_block, blocking.spec.group_out_channels)
    entries = table.reshape(by_channel)
    bounds = block_bounds(centroids, weights, blocking)  # [B, M/group]
    for begin in range(0, blocking.num_blocks, blocking.blocks_per_group):
        for first in range(begin, begin + blocking.blocks_per_group, blocks_per_scale):
            same = slice(first, min(first + blocks_per_scale, begin + blocking.blocks_per_group))
            bound = bounds[same].max(axis=0)
            if not bool((bound <= LARGEST_INT8_BOUND).all()):  # NaN, too
                return None
            scale = (bound / LARGEST_INT8_ENTRY).astype(xp.float32)
            used = bound >= SMALLEST_INT8_BOUND
            inverse = xp.where(used, LARGEST_INT8_ENTRY / xp.where(used, bound, 1.0), 0.0).astype(xp.float32)
            entries[same] = xp.rint(entries[same] * inverse) * xp.where(used, scale, xp.float32(0))
    return entries.reshape(table.shape)


def block_bounds(centroids: Array, weights: Array, blocking: Blocking) -> Array:
    """Returns the largest product that a block's centroids and weights can have, per channel: float64 [B, M/group]."""
    xp = array_module(centroids)
    of_centroids = xp.sqrt((centroids.astype(xp.float64) ** 2).sum(axis=2)).max(axis=1)
    panels = block_weights(weights, blocking).astype(xp.float64)
    of_columns = xp.sqrt((panels**2).sum(axis=1))  # [B, T]
    of_channels = of_columns.reshape(blocking.num_blocks, blocking.taps_per_block, -1).max(axis=1)
    return of_centroids[:, None] * of_channels


def _add_block(total: Array, table: Array, ids: Array, blocking: Blocking) -> None:
    """Adds one block's table rows [C, T] to `total [N, Oh, Ow, M/group]` at the ids [V] of its vectors."""
    g = blocking.spec
    if blocking.layout == "patch":
        total += table[ids].reshape(total.shape)
        return
    images = ids.reshape(g.batch, g.in_height, g.in_width)
    for row in range(g.kernel[0]):
        for column in range(g.kernel[1]):
            tap = row * g.kernel[1] + column
            products = table[:, tap * g.group_out_channels : (tap + 1) * g.group_out_channels]
            rows = [r for r in range(g.out_height) if 0 <= _source(g, 0, r, row) < g.in_height]
            columns = [c for c in range(g.out_width) if 0 <= _source(g, 1, c, column) < g.in_width]
            if not rows or not columns:
                continue
            source = images[:, _source(g, 0, rows[0], row) :: g.strides[0], :][:, : len(rows)]
            source = source[:, :, _source(g, 1, columns[0], column) :: g.strides[1]][:, :, : len(columns)]
            total[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += products[source]


def _source(spec: Any, axis: int, output: int, tap: int) -> int:
    """Returns the input coordinate that a tap reads for an output coordinate."""
    return int(output * spec.strides[axis] - spec.pads[axis] + tap * spec.dilations[axis])


def activate(y: Array, activation: Activation) -> Array:
    """Applies the fused activation."""
    xp = array_module(y)
    alpha, low, high = (xp.float32(value) for value in activation)
    y = xp.where(y < 0, y * alpha, y)
    return xp.minimum(xp.maximum(y, low), high)


def gather_rows(
    table: Array,
    ids: Array,
    blocking: Blocking,
    bias: Array | None = None,
    activation: Activation = NO_ACTIVATION,
) -> Array:
    """Operator Gather: returns Y [N, M, Oh, Ow]."""
    return finish(summed_rows(table, ids, blocking), bias, activation)


def summed_rows(table: Array, ids: Array, blocking: Blocking) -> Array:
    """Returns the sums [N, M, Oh, Ow] of table rows in the table's type, in the order of blocks and then of taps."""
    xp = array_module(table)
    g = blocking.spec
    outputs = []
    for group in range(g.group):
        total = xp.zeros((g.batch, g.out_height, g.out_width, g.group_out_channels), table.dtype)
        if g.rows > 0:
            for index in range(blocking.blocks_per_group):
                block = group * blocking.blocks_per_group + index
                _add_block(total, table[block], ids[block], blocking)
        outputs.append(total.transpose(0, 3, 1, 2))
    return xp.concatenate(outputs, axis=1)


def finish(y: Array, bias: Array | None, activation: Activation = NO_ACTIVATION) -> Array:
    """Adds the bias [M] to sums [N, M, Oh, Ow], and applies the activation."""
    if bias is not None:
        y = y + bias[None, :, None, None]
    return activate(y, activation)
