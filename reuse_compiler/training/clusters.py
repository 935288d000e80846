"""What forward and backward pass need of the clusters of one input, whoever computed them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.runtime.clustering import stacked


@dataclass(frozen=True)
class Gradients:
    """What a backward pass gives; None for what was not asked for."""

    weight: Tensor | None
    x: Tensor | None


class InputClusters(ABC):
    """The clusters of the neuron vectors of one input, by block (docs/operators.md, Cluster)."""

    def __init__(self, blocking: Blocking) -> None:
        self.blocking = blocking

    @property
    @abstractmethod
    def ids(self) -> Tensor:
        """The cluster of every vector, integers `[B, V]`."""

    @abstractmethod
    def centroids(self, block: int) -> Tensor:
        """The centroids `[C, L]` of a block; what is written to them is used by forward and backward pass."""

    @abstractmethod
    def members(self, block: int) -> Tensor:
        """How many vectors each of a block's clusters has, integers `[C]`."""

    @abstractmethod
    def codes(self, block: int) -> Tensor:
        """The code of each of a block's clusters, int64 `[C]`; only if they were to be kept."""

    @abstractmethod
    def forward(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns the output of the convolution with every vector replaced by its centroid."""

    @abstractmethod
    def backward(self, weight: Tensor, grad_y: Tensor, for_weight: bool, for_x: bool) -> Gradients:
        """Returns the gradients by Eq. 8-10 and 13-18 of the training paper."""

    def centroid_array(self) -> NDArray[np.float32]:
        """Returns the centroids of all blocks, `[B, Cmax, L]`."""
        return stacked([self.centroids(block).float().cpu().numpy() for block in range(self.blocking.num_blocks)])

    @property
    def count(self) -> int:
        """Clusters, summed over blocks."""
        return sum(len(self.members(block)) for block in range(self.blocking.num_blocks))
