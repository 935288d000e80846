"""Scope static: products that are known before any input is (docs/operators.md, Static tables).

Results are the kernels' bit for bit: every rounding stands here as the contract has it. Sums that are kept
(`incremental`) change no bit, so there is nothing of them here.
"""

from __future__ import annotations

from reuse_compiler.reference.operators import Clusters, finish, summed_rows
from reuse_compiler.reference.vectors import block_weights
from reuse_compiler.reuse.activation import NO_ACTIVATION, Activation
from reuse_compiler.reuse.config import TableType
from reuse_compiler.reuse.families.base import Array, array_module
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.reuse.int8_tables import (
    LARGEST_STATIC_PRODUCT,
    LARGEST_STATIC_SUM,
    MOST_STATIC_BLOCK_SUMS,
    MOST_STATIC_ENTRIES,
    SMALLEST_INT8_BOUND,
    STATIC_TAPS_AT_ONCE,
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
    """Returns entries int32 [B, C, T] and the scale float32 [M] of each output channel."""
    xp = array_module(table)
    columns = blocking.tap_columns
    sums = blocking.taps_per_block // columns * -(-columns // STATIC_TAPS_AT_ONCE)
    if sums > MOST_STATIC_BLOCK_SUMS:
        raise ValueError(f"a block adds {sums} sums of neighbouring taps, more than {MOST_STATIC_BLOCK_SUMS}")
    if blocking.gathers_per_output > MOST_STATIC_ENTRIES:
        raise ValueError(
            f"an output is the sum of {blocking.gathers_per_output} entries, more than {MOST_STATIC_ENTRIES}"
        )
    channels, groups = blocking.spec.group_out_channels, blocking.spec.group
    largest = xp.abs(table).max(axis=1, initial=0.0).astype(xp.float64)  # [B, T]
    by_row = largest.reshape(groups, -1, columns, channels)
    by_sum = [by_row[:, :, i : i + STATIC_TAPS_AT_ONCE].sum(axis=2) for i in range(0, columns, STATIC_TAPS_AT_ONCE)]
    most = xp.concatenate(by_sum, axis=1).max(axis=1, initial=0.0)  # [group, M/group]
    if not bool((most <= LARGEST_STATIC_PRODUCT).all()):  # NaN, too
        raise ValueError(f"products of centroids and weights exceed {LARGEST_STATIC_PRODUCT:g}: use float tables")
    used = most >= SMALLEST_INT8_BOUND
    scales = xp.where(used, most / LARGEST_STATIC_SUM, 0.0).astype(xp.float32)
    inverses = xp.where(used, LARGEST_STATIC_SUM / xp.where(used, most, 1.0), 0.0).astype(xp.float32)
    entries = xp.rint(table.reshape(groups, -1, channels) * inverses[:, None]).astype(xp.int32)
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
