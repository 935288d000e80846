"""Shapes of a convolution, of its unfolded input, and of the blocks of neuron vectors cut out of it.

The definitions are those of docs/operators.md; the C++ twin is custom_ops/include/reuse/geometry.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["patch", "channel"]
AutoPad = Literal["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]
DataOrder = Literal["nchw", "nhwc"]
"""Order of an image tensor: [N, channels, H, W] or pixel-major [N, H, W, channels]."""


def same_padding(size: int, kernel: int, stride: int, dilation: int, upper: bool) -> tuple[int, int]:
    """Returns the (begin, end) padding of one axis for ONNX's SAME_UPPER (`upper`) or SAME_LOWER."""
    output = -(-size // stride)
    total = max(0, (output - 1) * stride + (kernel - 1) * dilation + 1 - size)
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


@dataclass(frozen=True)
class ConvGeometry:
    """A two-dimensional convolution on an input of known size; pads are resolved (begin h, begin w, end h, end w)."""

    batch: int
    in_channels: int
    in_height: int
    in_width: int
    out_channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1

    @staticmethod
    def resolve_pads(
        auto_pad: AutoPad,
        pads: tuple[int, int, int, int],
        in_size: tuple[int, int],
        kernel: tuple[int, int],
        strides: tuple[int, int],
        dilations: tuple[int, int],
    ) -> tuple[int, int, int, int]:
        """Turns ONNX's `auto_pad` into explicit pads for an input of `in_size` (height, width)."""
        if auto_pad == "NOTSET":
            return pads
        if auto_pad == "VALID":
            return (0, 0, 0, 0)
        upper = auto_pad == "SAME_UPPER"
        (top, bottom), (left, right) = (
            same_padding(in_size[axis], kernel[axis], strides[axis], dilations[axis], upper) for axis in (0, 1)
        )
        return (top, left, bottom, right)

    def _out_size(self, axis: int) -> int:
        size = (self.in_height, self.in_width)[axis] + self.pads[axis] + self.pads[axis + 2]
        extent = (self.kernel[axis] - 1) * self.dilations[axis] + 1
        return 0 if size < extent else (size - extent) // self.strides[axis] + 1

    @property
    def out_height(self) -> int:
        return self._out_size(0)

    @property
    def out_width(self) -> int:
        return self._out_size(1)

    @property
    def group_in_channels(self) -> int:
        return self.in_channels // self.group

    @property
    def group_out_channels(self) -> int:
        return self.out_channels // self.group

    @property
    def taps(self) -> int:
        """Positions of the kernel, kh*kw."""
        return self.kernel[0] * self.kernel[1]

    @property
    def rows(self) -> int:
        """N of the papers: rows of the unfolded input of the whole batch."""
        return self.batch * self.out_height * self.out_width

    @property
    def columns(self) -> int:
        """K of the papers: columns of one group's unfolded input."""
        return self.taps * self.group_in_channels


@dataclass(frozen=True)
class Blocking:
    """How the unfolded input of a convolution is cut into blocks of neuron vectors (docs/operators.md, Terms)."""

    geometry: ConvGeometry
    layout: Layout
    sub_vector_length: int

    @property
    def group_width(self) -> int:
        """Elements of a group that the blocks share out: columns (patch) or channels (channel)."""
        return self.geometry.columns if self.layout == "patch" else self.geometry.group_in_channels

    @property
    def blocks_per_group(self) -> int:
        return -(-self.group_width // self.sub_vector_length)

    @property
    def num_blocks(self) -> int:
        return self.blocks_per_group * self.geometry.group

    def block_start(self, block: int) -> int:
        """First column (patch) or channel (channel) of the block within its group."""
        return block % self.blocks_per_group * self.sub_vector_length

    def block_length(self, block: int) -> int:
        """Elements of the block's vectors, at most `sub_vector_length`."""
        return min(self.sub_vector_length, self.group_width - self.block_start(block))

    @property
    def vectors(self) -> int:
        """V: neuron vectors per block, for the whole batch."""
        g = self.geometry
        return g.rows if self.layout == "patch" else g.batch * g.in_height * g.in_width

    @property
    def taps_per_block(self) -> int:
        """Table rows of one block that are added for one output pixel."""
        return 1 if self.layout == "patch" else self.geometry.taps

    @property
    def gathers_per_output(self) -> int:
        """Table rows that are added for one output pixel of one group."""
        return self.blocks_per_group * self.taps_per_block

    @property
    def table_width(self) -> int:
        """T: elements of a table row."""
        return self.geometry.group_out_channels * self.taps_per_block
