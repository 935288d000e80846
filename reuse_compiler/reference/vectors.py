"""Cutting a convolution's input into neuron vectors (docs/operators.md, Terms)."""

from __future__ import annotations

from reuse_compiler.reuse.families.base import Array, array_module
from reuse_compiler.reuse.geometry import Blocking, ConvSpec


def unfold(x: Array, spec: ConvSpec, group: int) -> Array:
    """Returns the unfolded input [N*Oh*Ow, K] of one group of `x [N, Ic, H, W]`, columns in the order (kh, kw, c)."""
    xp = array_module(x)
    top, left, bottom, right = spec.pads
    channels = slice(group * spec.group_in_channels, (group + 1) * spec.group_in_channels)
    padded = xp.pad(x[:, channels], ((0, 0), (0, 0), (top, bottom), (left, right)))
    columns = []
    for row in range(spec.kernel[0]):
        for column in range(spec.kernel[1]):
            first_row, first_column = row * spec.dilations[0], column * spec.dilations[1]
            window = padded[
                :,
                :,
                first_row : first_row + (spec.out_height - 1) * spec.strides[0] + 1 : spec.strides[0],
                first_column : first_column + (spec.out_width - 1) * spec.strides[1] + 1 : spec.strides[1],
            ]
            columns.append(window.transpose(0, 2, 3, 1).reshape(spec.rows, spec.group_in_channels))
    return xp.concatenate(columns, axis=1)


def neuron_vectors(x: Array, blocking: Blocking) -> Array:
    """Returns all neuron vectors, float32 [B, V, L]; those of a block shorter than L end with zeros."""
    xp = array_module(x)
    g = blocking.spec
    vectors = xp.zeros((blocking.num_blocks, blocking.vectors, blocking.sub_vector_length), xp.float32)
    if blocking.vectors == 0:
        return vectors
    for group in range(g.group):
        if blocking.layout == "patch":
            rows = unfold(x, g, group)
        else:
            channels = slice(group * g.group_in_channels, (group + 1) * g.group_in_channels)
            rows = x[:, channels].transpose(0, 2, 3, 1).reshape(blocking.vectors, g.group_in_channels)
        for index in range(blocking.blocks_per_group):
            block = group * blocking.blocks_per_group + index
            start, length = blocking.block_start(block), blocking.block_length(block)
            vectors[block, :, :length] = rows[:, start : start + length]
    return vectors


def block_weights(weights: Array, blocking: Blocking) -> Array:
    """Returns the weights [B, L, T] that each block's vectors are multiplied with (T in the order (kh, kw, m))."""
    xp = array_module(weights)
    g = blocking.spec
    result = xp.zeros((blocking.num_blocks, blocking.sub_vector_length, blocking.table_width), xp.float32)
    for block in range(blocking.num_blocks):
        group = block // blocking.blocks_per_group
        start, length = blocking.block_start(block), blocking.block_length(block)
        kernels = weights[group * g.group_out_channels : (group + 1) * g.group_out_channels]  # [M/group, c, kh, kw]
        if blocking.layout == "patch":
            columns = kernels.transpose(2, 3, 1, 0).reshape(g.columns, g.group_out_channels)
        else:
            columns = kernels.transpose(1, 2, 3, 0).reshape(g.group_in_channels, blocking.table_width)
        result[block, :length] = columns[start : start + length]
    return result
