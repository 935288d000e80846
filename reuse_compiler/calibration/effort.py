"""How much work each `--budget` allows: the numbers that trade the calibration's time for its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reuse_compiler.calibration.options import BudgetName
from reuse_compiler.fitting.reconstruct import DEFAULT_PRODUCTS


@dataclass(frozen=True)
class Effort:
    """Limits of one budget."""

    lengths: tuple[int, ...]
    """Values of L that are tried in layout `channel`, where a layer has so many channels."""
    tree_depths: tuple[int, ...]
    """Values of H for family `learned`."""
    hashes: tuple[int, ...]
    """Values of H for the families that project."""
    repeats: int
    """Timed runs of a layer with each candidate."""
    fit_runs: int
    """Runs of the model whose activations are fitted to, at most."""
    fit_vectors: int
    """Neuron vectors per block that trees are fitted to, at most."""
    products: float
    """Multiply-adds that the normal equations of a layer's weights may take: few columns get many rows."""
    trials: int
    """Choices for the whole model that are measured end to end, at most."""


EFFORTS: Mapping[BudgetName, Effort] = {
    "quick": Effort((8, 16, 32), (8, 10, 12), (10, 14), 3, 4, 16_384, 5e10, 5),
    "default": Effort(
        (4, 6, 8, 16, 32, 64), (8, 9, 10, 11, 12, 13), (8, 10, 12, 14, 16), 5, 16, 32_768, DEFAULT_PRODUCTS, 12
    ),
    "extensive": Effort(
        (4, 6, 8, 12, 16, 32, 64), tuple(range(7, 15)), tuple(range(6, 21, 2)), 9, 32, 65_536, 6e11, 32
    ),
}
