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
    "quick": Effort(
        lengths=(8, 16, 32),
        hashes=_hashes("quick"),
        static_hashes=(6, 8, 10),
        repeats=3,
        timed_runs=3,
        fit_runs=4,
        fit_vectors=16_384,
        products=5e10,
        draft_products=1.25e10,
        trials=5,
    ),
    "default": Effort(
        lengths=(4, 6, 8, 16, 32, 64),
        hashes=_hashes("default"),
        static_hashes=(6, 8, 9, 10, 12),
        repeats=5,
        timed_runs=5,
        fit_runs=16,
        fit_vectors=32_768,
        products=DEFAULT_PRODUCTS,
        draft_products=2.5e10,
        trials=12,
    ),
    "extensive": Effort(
        lengths=(4, 6, 8, 12, 16, 32, 64),
        hashes=_hashes("extensive"),
        static_hashes=tuple(range(6, 13)),
        repeats=9,
        timed_runs=5,
        fit_runs=32,
        fit_vectors=65_536,
        products=6e11,
        draft_products=2e11,
        trials=32,
        compares=True,
        tune_steps=400,
    ),
}
