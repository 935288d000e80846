"""Clusters, forward and backward pass in plain PyTorch: on any device, in any precision; what the library is tested by.

This is what CUDA tensors use: sorting numbers the clusters, `index_select` gathers and `index_add` sums. It computes
what the library's kernels compute, not as fast as they would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from reuse_compiler.training.clusters import Gradients, InputClusters


class TorchClusters(InputClusters):
    """Clusters as tensors."""

    def __init__(self, blocking: Blocking, ids: Tensor, centroids: list[Tensor], codes: list[Tensor]) -> None:
        super().__init__(blocking)
        self._ids, self._centroids, self._codes = ids, centroids, codes

    @staticmethod
    def of(x: Tensor, blocking: Blocking, settings: LayerSettings, parameters: HashParameters) -> TorchClusters:
        """Hashes and clusters the vectors of `x`."""
        vectors = neuron_vectors(x.detach(), blocking)
        ids, centroids, codes = [], [], []
        for block in range(blocking.num_blocks):
            own = vectors[block]
            code = _codes(own, settings, parameters.block(block), blocking.block_length(block))
            number = _number(code, own, blocking, settings)
            count = int(number.max()) + 1 if len(number) else 0
            ids.append(number)
            centroids.append(_centroids(own, number, count, settings))
            codes.append(torch.empty(count, dtype=torch.int64, device=x.device).scatter_(0, number, code))
        return TorchClusters(blocking, torch.stack(ids), centroids, codes)

    @property
    def ids(self) -> Tensor:
        return self._ids

    def centroids(self, block: int) -> Tensor:
        return self._centroids[block]

    def members(self, block: int) -> Tensor:
        return torch.bincount(self._ids[block], minlength=len(self._centroids[block]))

    def codes(self, block: int) -> Tensor:
        return self._codes[block]

    def forward(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        g, channels = self.blocking.spec, self.blocking.spec.group_out_channels
        y = weight.new_zeros(g.rows, g.out_channels)
        for block, own, group in self._weights(weight):
            table = functional.pad(self._centroids[block].to(weight.dtype) @ own, (0, 0, 0, 1))
            for tap, rows in self._rows_by_tap(block):
                y[:, group] += table[:, tap * channels : (tap + 1) * channels].index_select(0, rows)
        if bias is not None:
            y += bias
        return y.reshape(g.batch, g.out_height, g.out_width, g.out_channels).permute(0, 3, 1, 2)

    def backward(self, weight: Tensor, grad_y: Tensor, for_weight: bool, for_x: bool) -> Gradients:
        g, channels = self.blocking.spec, self.blocking.spec.group_out_channels
        deltas = grad_y.permute(0, 2, 3, 1).reshape(g.rows, g.out_channels)
        by_block, grad_vectors = [], []
        for block, own, group in self._weights(weight):
            centroids = self._centroids[block].to(weight.dtype)
            sums = weight.new_zeros(len(centroids) + 1, own.shape[1])  # Eq. 8; the last row is what padding read
            for tap, rows in self._rows_by_tap(block):
                sums[:, tap * channels : (tap + 1) * channels].index_add_(0, rows, deltas[:, group])
            by_block.append(centroids.T @ sums[:-1])  # Eq. 10
            if for_x:  # Eq. 18
                members = self.members(block).to(weight.dtype)[:, None]
                grad_vectors.append((sums[:-1] / members @ own.T).index_select(0, self._ids[block]))
        grad_weight = joined_weights(by_block, self.blocking).reshape(weight.shape) if for_weight else None
        return Gradients(grad_weight, joined_input(grad_vectors, self.blocking) if for_x else None)

    def _weights(self, weight: Tensor) -> Iterator[tuple[int, Tensor, slice]]:
        """Yields block, its weights `[L, T]` and the output channels of its group."""
        channels = self.blocking.spec.group_out_channels
        for block, own in enumerate(block_weights(weight.detach(), self.blocking)):
            group = block // self.blocking.blocks_per_group
            yield block, own, slice(group * channels, (group + 1) * channels)

    def _rows_by_tap(self, block: int) -> Iterator[tuple[int, Tensor]]:
        """Yields, for each tap, the table row `[N*Oh*Ow]` that each output pixel reads; padding has the last one."""
        if self.blocking.layout == "patch":
            yield 0, self._ids[block]
            return
        g = self.blocking.spec
        image = self._ids[block].reshape(g.batch, g.in_height, g.in_width)
        padded = functional.pad(image, _torch_pads(g), value=len(self._centroids[block]))
        for tap in range(g.taps):
            yield tap, _window(padded, g, tap).reshape(g.rows)


def neuron_vectors(x: Tensor, blocking: Blocking) -> Tensor:
    """Returns all neuron vectors `[B, V, L]`; those of a block shorter than L end with zeros."""
    g = blocking.spec
    if blocking.layout == "patch":
        padded = functional.pad(x, _torch_pads(g))
        taps = [_window(padded, g, tap).permute(0, 2, 3, 1) for tap in range(g.taps)]
        rows = torch.stack(taps, dim=3).reshape(g.rows, g.taps, g.group, g.group_in_channels).permute(2, 0, 1, 3)
    else:
        rows = x.permute(0, 2, 3, 1).reshape(blocking.vectors, g.group, g.group_in_channels).permute(1, 0, 2)
    rows = rows.reshape(g.group, blocking.vectors, blocking.group_width)
    return _cut(rows.transpose(1, 2), blocking).transpose(1, 2)


def joined_input(vectors: list[Tensor], blocking: Blocking) -> Tensor:
    """Returns `[N, Ic, H, W]` to which the vectors `[V, L]` of each block are added where they were read."""
    g = blocking.spec
    joined = _joined(vectors, blocking, 1)
    if blocking.layout == "channel":
        pixels = joined.permute(1, 0, 2).reshape(g.batch, g.in_height, g.in_width, g.in_channels)
        return pixels.permute(0, 3, 1, 2)
    top, left, bottom, right = g.pads
    taps = joined.reshape(g.group, g.batch, g.out_height, g.out_width, g.taps, g.group_in_channels)
    images = taps.permute(1, 4, 0, 5, 2, 3).reshape(g.batch, g.taps, g.in_channels, g.out_height, g.out_width)
    padded = images.new_zeros(g.batch, g.in_channels, g.in_height + top + bottom, g.in_width + left + right)
    for tap in range(g.taps):
        _window(padded, g, tap).add_(images[:, tap])
    return padded[:, :, top : top + g.in_height, left : left + g.in_width]


def block_weights(weight: Tensor, blocking: Blocking) -> Tensor:
    """Returns the weights `[B, L, T]` that each block's vectors are multiplied with (T in the order kh, kw, m)."""
    g = blocking.spec
    kernels = weight.reshape(g.group, g.group_out_channels, g.group_in_channels, g.taps)
    order = (0, 3, 2, 1) if blocking.layout == "patch" else (0, 2, 3, 1)
    return _cut(kernels.permute(order).reshape(g.group, blocking.group_width, blocking.table_width), blocking)


def joined_weights(weights: list[Tensor], blocking: Blocking) -> Tensor:
    """The inverse of `block_weights`: `[B]` times `[L, T]` to `[M, Ic/group, kh*kw]`."""
    g = blocking.spec
    groups = _joined(weights, blocking, 0)
    if blocking.layout == "patch":
        kernels = groups.reshape(g.group, g.taps, g.group_in_channels, g.group_out_channels).permute(0, 3, 2, 1)
    else:
        kernels = groups.reshape(g.group, g.group_in_channels, g.taps, g.group_out_channels).permute(0, 3, 1, 2)
    return kernels.reshape(g.out_channels, g.group_in_channels, g.taps)


def _cut(columns: Tensor, blocking: Blocking) -> Tensor:
    """Cuts `[group, group width, n]` into blocks `[B, L, n]`, short ones followed by zeros."""
    missing = blocking.blocks_per_group * blocking.sub_vector_length - blocking.group_width
    padded = functional.pad(columns, (0, 0, 0, missing))
    return padded.reshape(blocking.num_blocks, blocking.sub_vector_length, columns.shape[2])


def _joined(blocks: list[Tensor], blocking: Blocking, axis: int) -> Tensor:
    """Puts the blocks of each group together along an axis, `[group, ...]`, without the zeros at their ends."""
    cut = [own.narrow(axis, 0, blocking.block_length(block)) for block, own in enumerate(blocks)]
    count = blocking.blocks_per_group
    return torch.stack([torch.cat(cut[first : first + count], axis) for first in range(0, len(cut), count)])


def _torch_pads(g: ConvSpec) -> tuple[int, int, int, int]:
    top, left, bottom, right = g.pads
    return (left, right, top, bottom)


def _window(padded: Tensor, g: ConvSpec, tap: int) -> Tensor:
    """The part of `[..., H + pads, W + pads]` that a tap reads, `[..., Oh, Ow]`."""
    row, column = tap // g.kernel[1] * g.dilations[0], tap % g.kernel[1] * g.dilations[1]
    return padded[
        ...,
        row : row + (g.out_height - 1) * g.strides[0] + 1 : g.strides[0],
        column : column + (g.out_width - 1) * g.strides[1] + 1 : g.strides[1],
    ]


Parameters = Mapping[str, Tensor]
"""A block's hash parameters by name, as far as there are any."""


def _tensors(parameters: HashParameters, like: Tensor) -> Parameters:
    """Returns a block's parameters as tensors like its vectors."""
    kinds = {"coordinates": torch.int64}
    return {
        name: torch.as_tensor(np.asarray(array), dtype=kinds.get(name, like.dtype), device=like.device)
        for name, array in parameters.items()
        if array is not None
    }


def _sign(vectors: Tensor, own: Parameters, length: int) -> Tensor:
    bits = (vectors @ own["projections"] > own["thresholds"]).long()
    return (bits << torch.arange(bits.shape[1], device=bits.device)).sum(1)


def _learned(vectors: Tensor, own: Parameters, length: int) -> Tensor:
    values = vectors @ own["projections"] if "projections" in own else vectors
    coordinates, thresholds = own["coordinates"], own["thresholds"]
    depth = (len(coordinates) + 1).bit_length() - 1
    node = torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)
    for _ in range(depth):
        value = values.gather(1, coordinates[node][:, None])[:, 0]
        node = 2 * node + 1 + (value > thresholds[node]).long()
    return node - (2**depth - 1)


def _exact(vectors: Tensor, own: Parameters, length: int) -> Tensor:
    """Numbers in place of fingerprints: equal vectors, and only those, have equal ones."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[vectors.element_size()]
    bits = vectors[:, :length].contiguous().view(integers)
    return torch.unique(bits, dim=0, return_inverse=True)[1]


_CODES: Mapping[str, Callable[[Tensor, Parameters, int], Tensor]] = {
    "sign": _sign,
    "learned": _learned,
    "exact": _exact,
}
"""Families that are computed where the vectors are; NumPy computes the others."""


def _codes(vectors: Tensor, settings: LayerSettings, parameters: HashParameters, length: int) -> Tensor:
    if settings.family in _CODES:
        return _CODES[settings.family](vectors, _tensors(parameters, vectors), length)
    codes = FAMILIES[settings.family].codes(vectors.float().cpu().numpy(), parameters, length)
    return torch.from_numpy(codes).to(vectors.device)


def _number(codes: Tensor, vectors: Tensor, blocking: Blocking, settings: LayerSettings) -> Tensor:
    """Returns the cluster of each vector; guarded ones and those that are not finite are clusters of their own."""
    if not len(codes):
        return codes
    units = blocking.spec.batch if settings.scope == "image" else 1
    unit = torch.arange(len(codes), device=codes.device) // (len(codes) // units)
    alone = torch.zeros_like(codes, dtype=torch.bool)
    if not FAMILIES[settings.family].lossless:
        alone = ~torch.isfinite(vectors).all(dim=1)
    distinct = torch.unique(codes, return_inverse=True)[1]
    key = _by_first_appearance(torch.where(alone, -1 - torch.arange(len(codes), device=codes.device), distinct), unit)
    if settings.capacity < 1.0:
        limit = max(1, int(np.ceil(float(np.float32(settings.capacity)) * (len(codes) // units))))
        opens = _first_of_each(key) & ~alone
        rank = torch.zeros_like(key).scatter_(0, key[opens], _rank_in_unit(unit[opens]))
        alone = alone | (rank[key] >= limit)
        key = torch.where(alone, len(codes) + torch.arange(len(codes), device=codes.device), key)
    return _by_first_appearance(key, torch.zeros_like(unit))


def _by_first_appearance(key: Tensor, unit: Tensor) -> Tensor:
    """Numbers distinct pairs of unit and key in the order in which they appear first."""
    pairs = torch.unique(torch.stack([unit, key]), dim=1, return_inverse=True)[1]
    first = torch.full((int(pairs.max()) + 1,), len(pairs), device=key.device)
    first = first.scatter_reduce(0, pairs, torch.arange(len(pairs), device=key.device), "amin")
    return first.argsort().argsort()[pairs]


def _first_of_each(number: Tensor) -> Tensor:
    """Whether each place is the first with its number, where numbers count by first appearance."""
    highest = number.cummax(0).values
    return torch.cat([highest.new_ones(1, dtype=torch.bool), highest[1:] > highest[:-1]])


def _rank_in_unit(unit: Tensor) -> Tensor:
    """The place of each element among those of its unit; units ascend."""
    starts = torch.searchsorted(unit, unit)
    return torch.arange(len(unit), device=unit.device) - starts


def _centroids(vectors: Tensor, ids: Tensor, count: int, settings: LayerSettings) -> Tensor:
    """Means in float64, `[C, L]` in the precision of the vectors."""
    wide = vectors.double()
    members = torch.bincount(ids, minlength=count).double()[:, None]

    def mean(values: Tensor) -> Tensor:
        return wide.new_zeros(count, values.shape[1]).index_add_(0, ids, values) / members

    if FAMILIES[settings.family].lossless:  # the members are equal; their mean need not be, by rounding
        return vectors.new_empty(count, vectors.shape[1]).index_copy_(0, ids, vectors)
    if settings.metric == "angular":
        norms = wide.norm(dim=1, keepdim=True)
        usable = torch.isfinite(norms) & (norms > 0)
        units = wide / torch.where(usable, norms, 1.0)
        return (mean(units) * mean(torch.where(torch.isfinite(norms), norms, 1.0))).to(vectors.dtype)
    return mean(wide).to(vectors.dtype)
