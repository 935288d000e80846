"""How much work each `--budget` allows: the numbers that trade the calibration's time for its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reuse_compiler.calibration.options import BudgetName


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
    "default": Effort((4, 6, 8, 16, 32, 64), (8, 9, 10, 11, 12, 13), (8, 10, 12, 14, 16), 5, 16, 32_768, 2e11, 12),
    "extensive": Effort(
        (4, 6, 8, 12, 16, 32, 64), tuple(range(7, 15)), tuple(range(6, 21, 2)), 9, 32, 65_536, 6e11, 32
    ),
}
ROWS_PER_COLUMN = 2
"""Rows that weights are refitted to at least, over the unfolded input's columns."""
MIN_ROWS, MAX_ROWS = 8_192, 131_072
"""Bounds of the rows, whatever the layer's columns."""


def reconstruction_rows(effort: Effort, columns: int) -> int:
    """Returns how many rows of an unfolded input with `columns` columns its weights are refitted to."""
    rows = max(int(effort.products / columns**2), ROWS_PER_COLUMN * columns)
    return min(max(rows, MIN_ROWS), MAX_ROWS)
