"""Small networks and inputs that the tests of training share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reuse_compiler.reuse.families import HashParameters


def smooth_images(count: int, channels: int, size: int, seed: int = 0) -> Tensor:
    """Images whose neighbouring pixels are alike, so that clusters have several members."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, channels, size // 3 + 2, size // 3 + 2, generator=generator)
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").contiguous()


def random_trees(blocks: int, elements: int) -> HashParameters:
    """Trees of five comparisons, each of one of the first elements of a vector."""
    generator = torch.Generator().manual_seed(0)
    return HashParameters(
        thresholds=torch.randn(blocks, 31, generator=generator).mul(0.3).numpy(),
        coordinates=torch.randint(elements, (blocks, 31), generator=generator, dtype=torch.int32).numpy(),
    )


def small_network(seed: int = 0) -> nn.Sequential:
    """Two convolutions with normalisation, one of stride 2 without bias, and a classifier."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 6 * 6, 4),
    )
