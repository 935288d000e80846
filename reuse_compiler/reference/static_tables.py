"""Scope static: products that are known before any input is (docs/operators.md, Static tables).

Results are the kernels' bit for bit: every rounding stands here as the contract has it.
"""

from __future__ import annotations

from reuse_compiler.reference.operators import Clusters, finish, summed_rows
from reuse_compiler.reference.vectors import block_weights
from reuse_compiler.reuse.activation import NO_ACTIVATION, Activation
from reuse_compiler.reuse.config import TableType
from reuse_compiler.reuse.families.base import Array, array_module
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.reuse.int8_tables import (
    LARGEST_STATIC_ENTRY,
    LARGEST_STATIC_PRODUCT,
    MOST_STATIC_BLOCK_ROWS,
    MOST_STATIC_ROWS,
    SMALLEST_INT8_BOUND,
)


def static_products(centroids: Array, weights: Array, blocking: Blocking) -> Array:
    """Returns the float32 table [B, C, T]: sums in the order of the elements, each product and sum rounded."""
    xp = array_module(centroids)
    panels = block_weights(weights, blocking)
    table = xp.zeros((*centroids.shape[:2], blocking.table_width), xp.float32)
    for element in range(blocking.sub_vector_length):
        products = centroids[:, :, element, None] * panels[:, None, element]
        table = table + products
    return table


def int8_entries(table: Array, blocking: Blocking) -> tuple[Array, Array]:
    """Returns entries int32 [B, C, T], all in -63..63, and the scale float32 [M] of each output channel."""
    xp = array_module(table)
    if blocking.taps_per_block > MOST_STATIC_BLOCK_ROWS:
        raise ValueError(f"a block adds {blocking.taps_per_block} entries, more than {MOST_STATIC_BLOCK_ROWS}")
    if blocking.gathers_per_output > MOST_STATIC_ROWS:
        raise ValueError(f"an output is the sum of {blocking.gathers_per_output} entries, more than {MOST_STATIC_ROWS}")
    channels, groups = blocking.spec.group_out_channels, blocking.spec.group
    by_channel = table.reshape(groups, -1, channels)
    largest = xp.abs(by_channel).max(axis=1, initial=0.0).astype(xp.float64)  # [group, M/group]
    if not bool((largest <= LARGEST_STATIC_PRODUCT).all()):  # NaN, too
        raise ValueError(f"a product of centroids and weights exceeds {LARGEST_STATIC_PRODUCT:g}: use float tables")
    used = largest >= SMALLEST_INT8_BOUND
    scales = xp.where(used, largest / LARGEST_STATIC_ENTRY, 0.0).astype(xp.float32)
    inverses = xp.where(used, LARGEST_STATIC_ENTRY / xp.where(used, largest, 1.0), 0.0).astype(xp.float32)
    rounded = xp.rint(by_channel * inverses[:, None])
    entries = xp.clip(rounded, -LARGEST_STATIC_ENTRY, LARGEST_STATIC_ENTRY).astype(xp.int32)
    return entries.reshape(table.shape), scales.reshape(-1)


def static_convolution(
    clusters: Clusters,
    given: Array,
    weights: Array,
    blocking: Blocking,
    table_type: TableType = "float",
    bias: Array | None = None,
    activation: Activation = NO_ACTIVATION,
) -> Array:
    """Returns Y [N, M, Oh, Ow] of ReuseConv from the clusters of its input, the first of which are `given`."""
    xp = array_module(given)
    known, own = given.shape[1], clusters.centroids[:, given.shape[1] :]
    table = static_products(given, weights, blocking)
    scales = None
    if table_type == "int8":
        table, scales = int8_entries(table, blocking)
    is_own = clusters.ids >= known
    nothing = xp.zeros((blocking.num_blocks, 1, blocking.table_width), table.dtype)
    y = summed_rows(xp.concatenate([table, nothing], axis=1), xp.where(is_own, known, clusters.ids), blocking)
    if scales is not None:
        y = y.astype(xp.float32) * scales[None, :, None, None]
    if bool(is_own.any()):
        products = static_products(own, weights, blocking)
        nothing = xp.zeros((blocking.num_blocks, 1, blocking.table_width), xp.float32)
        ids = xp.where(is_own, clusters.ids - known, own.shape[1])
        dense = summed_rows(xp.concatenate([products, nothing], axis=1), ids, blocking)
        y = xp.where(xp.isfinite(dense), y, dense)  # the sum is finite, and zero, where no such vector is read
    return finish(y, bias, activation)
