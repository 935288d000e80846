"""Shapes of a convolution, of its unfolded input, and of the blocks of neuron vectors cut out of it.

The definitions are those of docs/operators.md; the C++ twin is custom_ops/include/reuse/geometry.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Layout = Literal["patch", "channel"]
ElementType = Literal["float32", "uint8", "int8"]
ByteOperator = Literal["QLinearConv", "Conv", "ConvInteger"]
ELEMENT_BYTES: dict[ElementType, int] = {"float32": 4, "uint8": 1, "int8": 1}
AutoPad = Literal["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]
LARGEST_EXTENT = 2**30
"""Largest attribute of a convolution, so that the kernels' products of them are in range of 64 bits."""
DataOrder = Literal["nchw", "nhwc"]
"""Order of an image tensor: [N, channels, H, W] or pixel-major [N, H, W, channels]."""
TO_PIXEL_MAJOR, FROM_PIXEL_MAJOR = (0, 2, 3, 1), (0, 3, 1, 2)
"""From the first of these orders to the second, and back: axes, as Transpose has them."""


def same_padding(size: int, kernel: int, stride: int, dilation: int, upper: bool) -> tuple[int, int]:
    """Returns the (begin, end) padding of one axis for ONNX's SAME_UPPER (`upper`) or SAME_LOWER."""
    output = -(-size // stride)
    total = max(0, (output - 1) * stride + (kernel - 1) * dilation + 1 - size)
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


@dataclass(frozen=True)
class ConvSpec:
    """A convolution as ONNX's Conv says it, on an input of some size: the only description of one.

    It has two dimensions; where the model's has one, the height is 1. Batch, height and width are 0 as long as they are
    not known. Raises ValueError for numbers that make no convolution.
    """

    batch: int
    in_channels: int
    in_height: int
    in_width: int
    out_channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Begin h, begin w, end h, end w; an `auto_pad` puts here what it means for the input's size."""
    dilations: tuple[int, int] = (1, 1)
    group: int = 1
    auto_pad: AutoPad = "NOTSET"
    one_dimensional: bool = False
    """Whether the model's tensors have no height."""
    element: ElementType = "float32"
    """Of the input."""
    bytes_by: ByteOperator = "QLinearConv"
    """What onnxruntime computes a convolution of bytes with; a Conv has bytes that become floats first."""

    @property
    def is_quantised(self) -> bool:
        """Whether it is a convolution of bytes."""
        return self.element != "float32"

    @property
    def gives_bytes(self) -> bool:
        """Whether its result is bytes, too, by scales that are the same in all runs."""
        return self.is_quantised and self.bytes_by == "QLinearConv"

    def __post_init__(self) -> None:
        if self.auto_pad != "NOTSET":
            object.__setattr__(self, "pads", self._automatic_pads())
        counts = {"kernel": self.kernel, "strides": self.strides, "dilations": self.dilations, "group": (self.group,)}
        for name, values in {**counts, "pads": self.pads}.items():
            smallest = 0 if name == "pads" else 1
            if not all(smallest <= value <= LARGEST_EXTENT for value in values):
                raise ValueError(f"{name} must be at least {smallest} and at most {LARGEST_EXTENT}, unlike {values}")
        if self.in_channels % self.group or self.out_channels % self.group:
            raise ValueError(f"channels cannot be divided into groups: {self}")

    @staticmethod
    def of(
        input_shape: Sequence[int | None],
        weight_shape: Sequence[int],
        strides: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        group: int | None = None,
        auto_pad: AutoPad | None = None,
    ) -> ConvSpec:
        """Returns the Conv with these attributes of ONNX (None: its default) for tensors of these shapes.

        They are [N, Ic, H, W] and [M, Ic/group, kh, kw], or without H and kh. The channels are those of the weights.
        """
        half = len(weight_shape) - 2
        spec = ConvSpec(
            0,
            weight_shape[1] * (group or 1),
            0,
            0,
            weight_shape[0],
            _two(weight_shape[2:], 1),
            _two(strides, 1),
            (*_two(pads and pads[:half], 0), *_two(pads and pads[half:], 0)),
            _two(dilations, 1),
            group or 1,
            auto_pad or "NOTSET",
            one_dimensional=half == 1,
        )
        return spec.on(input_shape)

    def on(self, input_shape: Sequence[int | None]) -> ConvSpec:
        """Returns the same convolution on an input of that shape, [N, Ic, H, W] or without H; None is not known."""
        sizes = [size for axis, size in enumerate(input_shape) if axis != 1 and size is not None]
        batch, *size = sizes if len(sizes) == len(input_shape) - 1 else (0, 0, 0)
        height, width = _two(size, 1)
        return replace(self, batch=batch, in_height=height, in_width=width)

    def _automatic_pads(self) -> tuple[int, int, int, int]:
        if self.auto_pad == "VALID":
            return (0, 0, 0, 0)
        upper, size = self.auto_pad == "SAME_UPPER", (self.in_height, self.in_width)
        (top, bottom), (left, right) = (
            same_padding(size[axis], self.kernel[axis], self.strides[axis], self.dilations[axis], upper)
            for axis in (0, 1)
        )
        return (top, left, bottom, right)

    def _out_size(self, axis: int) -> int:
        size = (self.in_height, self.in_width)[axis] + self.pads[axis] + self.pads[axis + 2]
        extent = (self.kernel[axis] - 1) * self.dilations[axis] + 1
        return 0 if size < extent else (size - extent) // self.strides[axis] + 1

    @property
    def size_known(self) -> bool:
        """Whether batch, height and width of the input are known."""
        return self.in_height > 0

    @property
    def out_height(self) -> int:
        return self._out_size(0)

    @property
    def out_width(self) -> int:
        return self._out_size(1)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input as the model has it: [N, Ic, H, W], or without H."""
        return self._as_in_model((self.batch, self.in_channels, self.in_height, self.in_width))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights as the model has them: [M, Ic/group, kh, kw], or without kh."""
        return self._as_in_model((self.out_channels, self.group_in_channels, *self.kernel))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the result as the model has it."""
        return self._as_in_model((self.batch, self.out_channels, self.out_height, self.out_width))

    def _as_in_model(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:2], shape[3]) if self.one_dimensional else shape

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
    def pixels(self) -> int:
        """Pixels of the whole batch's input."""
        return self.batch * self.in_height * self.in_width

    @property
    def rows(self) -> int:
        """N of the papers: rows of the unfolded input of the whole batch."""
        return self.batch * self.out_height * self.out_width

    @property
    def columns(self) -> int:
        """K of the papers: columns of one group's unfolded input."""
        return self.taps * self.group_in_channels

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the dense convolution, including those with padding."""
        return self.rows * self.columns * self.out_channels

    @property
    def input_bytes(self) -> int:
        return ELEMENT_BYTES[self.element] * self.pixels * self.in_channels

    @property
    def weight_bytes(self) -> int:
        return ELEMENT_BYTES[self.element] * self.columns * self.out_channels

    @property
    def output_bytes(self) -> int:
        return ELEMENT_BYTES[self.element] * self.rows * self.out_channels


@dataclass(frozen=True)
class Blocking:
    """How the unfolded input of a convolution is cut into blocks of neuron vectors (docs/operators.md, Terms)."""

    spec: ConvSpec
    layout: Layout
    sub_vector_length: int

    @property
    def group_width(self) -> int:
        """Elements of a group that the blocks share out: columns (patch) or channels (channel)."""
        return self.spec.columns if self.layout == "patch" else self.spec.group_in_channels

    @property
    def blocks_per_group(self) -> int:
        return -(-self.group_width // self.sub_vector_length)

    @property
    def num_blocks(self) -> int:
        return self.blocks_per_group * self.spec.group

    def block_start(self, block: int) -> int:
        """First column (patch) or channel (channel) of the block within its group."""
        return block % self.blocks_per_group * self.sub_vector_length

    def block_length(self, block: int) -> int:
        """Elements of the block's vectors, at most `sub_vector_length`."""
        return min(self.sub_vector_length, self.group_width - self.block_start(block))

    @property
    def vectors(self) -> int:
        """V: neuron vectors per block, for the whole batch."""
        g = self.spec
        return g.rows if self.layout == "patch" else g.pixels

    @property
    def taps_per_block(self) -> int:
        """Table rows of one block that are added for one output pixel."""
        return 1 if self.layout == "patch" else self.spec.taps

    @property
    def tap_columns(self) -> int:
        """Of these, neighbours in a row of the kernel."""
        return 1 if self.layout == "patch" else self.spec.kernel[1]

    @property
    def gathers_per_output(self) -> int:
        """Table rows that are added for one output pixel of one group."""
        return self.blocks_per_group * self.taps_per_block

    @property
    def table_width(self) -> int:
        """T: elements of a table row."""
        return self.spec.group_out_channels * self.taps_per_block

    @property
    def kept_cluster_bytes(self) -> int:
        """What a cluster that is kept from run to run counts as: its centroid and its row of the table."""
        return 4 * (self.sub_vector_length + self.table_width)


def _two(values: Sequence[int] | None, missing: int) -> tuple[int, int]:
    """Returns the values of height and width; `missing` is that of both if there are none, of the height if one is."""
    first, second = [missing, missing, *(values or ())][-2:]
    return (int(first), int(second))
