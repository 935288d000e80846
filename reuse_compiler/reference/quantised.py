"""Operators QLinearReuseConv and ReuseConvInteger: convolutions of bytes whose equal vectors, or those with equal
codes, are multiplied once.

docs/operators.md has their contract.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reuse_compiler.reference.operators import cluster_vectors, finish, hash_vectors, summed_rows
from reuse_compiler.reference.static_tables import int8_entries, static_convolution
from reuse_compiler.reference.vectors import block_weights, neuron_vectors
from reuse_compiler.reuse.config import Scope
from reuse_compiler.reuse.families import FamilyName, HashParameters
from reuse_compiler.reuse.geometry import Blocking

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Integers:
    """A tensor of bytes, and its zero point, which is of the tensor's type."""

    values: Array
    zero_point: Array

    def shifted(self) -> Array:
        """Returns values less the zero point, float32, which has all of these; [M] zero points are by first axis."""
        zero_point = self.zero_point.reshape(-1, *[1] * (self.values.ndim - 1))
        return self.values.astype(np.float32) - zero_point.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Quantised(Integers):
    """One with its float32 scale."""

    scale: Array

    def dequantised(self) -> Array:
        """Returns what the bytes stand for, float32; several scales are by first axis."""
        return np.asarray(self.shifted() * self.scale.reshape(-1, *[1] * (self.values.ndim - 1)))


@dataclass(frozen=True)
class Hashing:
    """What a vector's code is."""

    family: FamilyName
    parameters: HashParameters


@dataclass(frozen=True)
class Given:
    """What scope static needs beside: centroids [B, 2^H, L], and weights and bias if they were fitted."""

    centroids: Array
    weights: Array | None = None
    bias: Array | None = None


def qlinear_reuse_conv(
    x: Quantised,
    w: Quantised,
    y_scale: Array,
    y_zero_point: Array,
    bias: Array | None,
    blocking: Blocking,
    scope: Scope | Given = "batch",
    hashing: Hashing | None = None,
) -> Array:
    """Returns y [N, M, Oh, Ow] of the type of its zero point; `bias` is int32 [M], `scope` what is given if static.

    Without `hashing`, which scope static needs, equal vectors share a cluster, and no others.
    """
    if isinstance(scope, Given):
        assert hashing is not None
        values = _static(x, w, bias, blocking, scope, hashing)
    elif hashing is not None:
        values = _by_code(x, w, bias, blocking, scope, hashing)
    else:
        sums = _sums(x, w, blocking, scope)
        if bias is not None:
            sums += bias[:, None, None]
        return requantised(sums.astype(np.int32), x.scale, w.scale, y_scale, y_zero_point)  # modulo 2^32
    return as_bytes(values * (np.float32(1.0) / y_scale.reshape(())), y_zero_point)


def _static(
    x: Quantised, w: Quantised, bias: Array | None, blocking: Blocking, given: Given, hashing: Hashing
) -> Array:
    """Returns the result [N, M, Oh, Ow] of ReuseConv for what the bytes stand for, float32."""
    values, weights = x.dequantised(), given.weights if given.weights is not None else w.dequantised()
    codes = hash_vectors(values, blocking, hashing.family, hashing.parameters)
    clusters = cluster_vectors(values, codes, blocking, "static", given=given.centroids)
    biases = _float_bias(x, w, bias) if given.bias is None else given.bias
    return np.asarray(static_convolution(clusters, given.centroids, weights, blocking, "int8", biases))


def _float_bias(x: Quantised, w: Quantised, bias: Array | None) -> Array | None:
    return None if bias is None else np.asarray(bias.astype(np.float32) * x.scale.reshape(()) * w.scale)


def _by_code(
    x: Quantised, w: Quantised, bias: Array | None, blocking: Blocking, scope: Scope, hashing: Hashing
) -> Array:
    """Returns the result [N, M, Oh, Ow], float32, of clusters of the batch or an image, whose centroids are bytes."""
    if scope == "image" and blocking.spec.batch > 1:  # each has scales of its own
        alone = replace(blocking, spec=replace(blocking.spec, batch=1))
        images = [replace(x, values=x.values[i : i + 1]) for i in range(blocking.spec.batch)]
        return np.concatenate([_by_code(image, w, bias, alone, scope, hashing) for image in images])
    codes = hash_vectors(x.dequantised(), blocking, hashing.family, hashing.parameters)
    clusters = cluster_vectors(x.shifted(), codes, blocking)
    zero_point = float(x.zero_point.reshape(()))
    vectors = neuron_vectors(x.shifted(), blocking).astype(np.float64) + zero_point
    centroids = np.zeros(clusters.centroids.shape, np.float64)
    for block, ids in enumerate(clusters.ids):
        np.add.at(centroids[block], ids, vectors[block])
        means = centroids[block, : ids.max(initial=-1) + 1]
        means[:] = np.rint(means / np.bincount(ids, minlength=len(means))[:, None]) - zero_point
    entries, scales = int8_entries(_products(centroids, w, blocking).astype(np.float32), blocking)
    sums = summed_rows(entries, clusters.ids, blocking).astype(np.float32)
    by_channel = (scales * (x.scale.reshape(()) * w.scale)).reshape(-1, 1, 1)
    return np.asarray(finish(sums * by_channel, _float_bias(x, w, bias)))


def reuse_conv_integer(
    x: Integers, w: Integers, scale: Array, bias: Array | None, blocking: Blocking, scope: Scope = "batch"
) -> Array:
    """Returns y [N, M, Oh, Ow] of float32; `scale` has 1 or M elements, `bias` is float32 [M]."""
    sums = _sums(x, w, blocking, scope).astype(np.int32)  # modulo 2^32
    y = sums.astype(np.float32) * scale.reshape(-1, 1, 1)
    return np.asarray(y if bias is None else y + bias.reshape(-1, 1, 1))


def _sums(x: Integers, w: Integers, blocking: Blocking, scope: Scope) -> Array:
    """Returns the sums of products [N, M, Oh, Ow], int64."""
    # Less the zero point, vectors are equal if and only if their bytes are, and padding is zero.
    shifted = x.shifted()
    codes = hash_vectors(shifted, blocking, "exact", HashParameters())
    clusters = cluster_vectors(shifted, codes, blocking, scope, verify=True)
    return np.asarray(summed_rows(_products(clusters.centroids, w, blocking), clusters.ids, blocking))


def _products(centroids: Array, w: Integers, blocking: Blocking) -> Array:
    """Returns the table [B, C, T] of int64."""
    # Products of up to K integers below 2^16 are exact in float64.
    table = centroids.astype(np.float64) @ block_weights(w.shifted(), blocking).astype(np.float64)
    return np.asarray(table.astype(np.int64))


def requantised(sums: Array, x_scale: Array, w_scale: Array, y_scale: Array, y_zero_point: Array) -> Array:
    """Returns the bytes of int32 sums [N, M, Oh, Ow], in units of `x_scale * w_scale`; float32 as it is written."""
    scale = (x_scale.reshape(()) * w_scale / y_scale.reshape(())).reshape(-1, 1, 1)
    return as_bytes(sums.astype(np.float32) * scale, y_zero_point)


def as_bytes(values: Array, y_zero_point: Array) -> Array:
    """Returns numbers in units of bytes, rounded and shifted to what the zero point's type holds."""
    zero_point, limits = int(y_zero_point.reshape(())), np.iinfo(y_zero_point.dtype)
    low, high = np.float32(limits.min - zero_point), np.float32(limits.max - zero_point)
    rounded = np.rint(np.clip(values, low, high))
    return np.asarray((rounded.astype(np.int32) + zero_point).astype(y_zero_point.dtype))
