"""How much work each `--budget` allows: the numbers that trade the calibration's time for its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reuse_compiler.calibration.options import BudgetName
from reuse_compiler.fitting.reconstruct import DEFAULT_PRODUCTS
from reuse_compiler.reuse.families import FAMILIES


@dataclass(frozen=True)
class Effort:
    """Limits of one budget."""

    lengths: tuple[int, ...]
    """Values of L that are tried in layout `channel`, where a layer has so many channels."""
    hashes: Mapping[str, tuple[int, ...]]
    """Values of H that are tried, by hash family."""
    static_hashes: tuple[int, ...]
    """Those that are tried with scope static, whose tables take twice the memory for one more."""
    repeats: int
    """Timed runs of a layer with each candidate."""
    timed_runs: int
    """Runs of the whole model with each choice whose median is its time."""
    fit_runs: int
    """Runs of the model whose activations are fitted to, at most."""
    fit_vectors: int
    """Neuron vectors per block that trees are fitted to, at most."""
    products: float
    """Multiply-adds that the normal equations of a layer's weights may take: few columns get many rows."""
    draft_products: float
    """Those that they may take in trials."""
    trials: int
    """Choices for the whole model that are measured end to end, at most."""
    compares: bool = False
    """Whether the last check is made with less reconstruction, too, to show what that gains."""
    tune_steps: int = 0
    """Steps of tuning that the chosen static layers get in the end."""


def _hashes(budget: BudgetName) -> dict[str, tuple[int, ...]]:
    return {name: family.tried_hashes[budget] for name, family in FAMILIES.items()}


EFFORTS: Mapping[BudgetName, Effort] = {
    "quick": Effort((8, 16, 32), _hashes("quick"), (6, 8, 10), 3, 3, 4, 16_384, 5e10, 1.25e10, 5),
    "default": Effort(
        (4, 6, 8, 16, 32, 64), _hashes("default"), (6, 8, 9, 10, 12), 5, 5, 16, 32_768, DEFAULT_PRODUCTS, 2.5e10, 12
    ),
    "extensive": Effort(
        (4, 6, 8, 12, 16, 32, 64),
        _hashes("extensive"),
        tuple(range(6, 13)),
        9,
        5,
        32,
        65_536,
        6e11,
        2e11,
        32,
        True,
        400,
    ),
}
