"""A PyTorch convolution on an input as a `ConvSpec`, and the order of its tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reuse_compiler.reuse.geometry import Blocking, ConvSpec

ANY_SIZE = (None, None, None, None)
"""Shape of an input that is not known: how many blocks there are does not depend on it."""


def spec_of(conv: nn.Conv2d, shape: Sequence[int | None]) -> ConvSpec:
    """Returns the convolution on an input `[N, Ic, H, W]` of that shape; None is not known."""
    return ConvSpec.of(shape, conv.weight.shape, conv.stride, pads_of(conv), conv.dilation, conv.groups)


def pads_of(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """Returns begin h, begin w, end h, end w; of 'same' padding, what is odd goes to the end, as in PyTorch."""
    if conv.padding == "valid":
        return (0, 0, 0, 0)
    if conv.padding == "same":
        totals = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        return (totals[0] // 2, totals[1] // 2, totals[0] - totals[0] // 2, totals[1] - totals[1] // 2)
    height, width = (int(pad) for pad in conv.padding)
    return (height, width, height, width)


def order_of(x: Tensor) -> torch.memory_format:
    """Returns in which order the pixels and channels of `[N, C, H, W]` lie."""
    pixel_major = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if pixel_major else torch.contiguous_format


def memory_formats(x: Tensor, blocking: Blocking) -> tuple[torch.memory_format, torch.memory_format]:
    """Returns in which orders the kernels read an input and write its output."""
    own = order_of(x)
    # Windows (layout patch) are read from planes only, but written to either.
    return own if blocking.layout == "channel" else torch.contiguous_format, own
