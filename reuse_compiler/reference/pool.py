"""Operators MaxPool and AveragePool: over windows of a pixel-major tensor (docs/operators.md, MaxPool)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reuse_compiler.reuse.families.base import Array, array_module
from reuse_compiler.reuse.geometry import AutoPad, same_padding

PoolMode = Literal["max", "average"]


@dataclass(frozen=True)
class Pooling:
    """The operator, MaxPool or AveragePool, and its attributes."""

    mode: PoolMode
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    auto_pad: AutoPad = "NOTSET"
    ceil_mode: bool = False
    count_include_pad: bool = False

    def axis(self, axis: int, size: int) -> list[tuple[int, int]]:
        """Returns the first and the end of each window on an axis (0: height, 1: width) of that size."""
        kernel, stride = self.kernel[axis], self.strides[axis]
        if self.auto_pad == "NOTSET":
            begin, end = self.pads[axis], self.pads[axis + 2]
        elif self.auto_pad == "VALID":
            begin = end = 0
        else:
            begin, end = same_padding(size, kernel, stride, 1, self.auto_pad == "SAME_UPPER")
        rest = size + begin + end - kernel
        # Rounded towards zero, as onnxruntime does: an input that lacks less than a stride still has a window.
        count = (-(-rest // stride) if self.ceil_mode or rest < 0 else rest // stride) + 1
        # A window that would begin in the padding at the end is none.
        if self.ceil_mode and (count - 1) * stride >= size + begin:
            count -= 1
        if count < 1:
            raise ValueError(f"an input of {size} with its padding is smaller than the kernel, which spans {kernel}")
        return [(index * stride - begin, index * stride - begin + kernel) for index in range(count)]


def pool(x: Array, pooling: Pooling) -> Array:
    """Returns the pooled `x [N, H, W, channels]`: [N, Oh, Ow, channels]."""
    xp = array_module(x)
    batch, height, width, channels = x.shape
    rows, columns = pooling.axis(0, height), pooling.axis(1, width)
    result = xp.zeros((batch, len(rows), len(columns), channels), xp.float32)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            window = x[:, max(top, 0) : bottom, max(left, 0) : right]
            if pooling.mode == "max":
                result[:, i, j] = window.max(axis=(1, 2))
            else:
                inside = window.shape[1] * window.shape[2]
                divisor = pooling.kernel[0] * pooling.kernel[1] if pooling.count_include_pad else inside
                result[:, i, j] = window.sum(axis=(1, 2)) / xp.float32(divisor)
    return result
