"""The interface of a hash family, and the arithmetic that families share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Array = Any
"""A NumPy or CuPy array."""

MIX_SEED = 0x9E3779B97F4A7C15
MIX_FACTOR = 0xBF58476D1CE4E5B9
MIX_SHIFT = 29


@dataclass(frozen=True)
class HashParameters:
    """Parameters of a family for all blocks of a layer, in the operators' input order; shapes in docs/operators.md."""

    projections: npt.NDArray[np.float32] | None = None
    thresholds: npt.NDArray[np.float32] | None = None
    coordinates: npt.NDArray[np.int32] | None = None

    def items(self) -> list[tuple[str, npt.NDArray[Any] | None]]:
        """Returns (name, array or None) in the operators' input order."""
        return [(f.name, getattr(self, f.name)) for f in fields(self)]

    @staticmethod
    def element(name: str) -> type[np.int32 | np.float32]:
        """Returns the type of a parameter's elements."""
        return np.int32 if name == "coordinates" else np.float32

    def block(self, index: int) -> HashParameters:
        """Returns the parameters of one block (leading dimension dropped)."""
        return HashParameters(**{name: None if value is None else value[index] for name, value in self.items()})


@dataclass(frozen=True)
class FitSample:
    """What parameters are fitted to: finite neuron vectors of a layer, block by block, and what multiplies them."""

    vectors: npt.NDArray[np.float32]
    """`[B, n, L]`"""
    weights: npt.NDArray[np.float32]
    """`[B, L, T]`"""
    generator: Callable[[], np.random.Generator]
    """Makes the layer's own source of random numbers; it begins anew each time."""


def array_module(array: Array) -> ModuleType:
    """Returns the module (numpy or cupy) whose functions work on `array`."""
    if type(array).__module__.split(".")[0] == "cupy":
        import cupy

        return cupy  # type: ignore[no-any-return]
    return np


def project(vectors: Array, projections: Array) -> Array:
    """Returns `vectors [V, L] @ projections [L, H]`, summed in float32 in element order (docs/operators.md, Hash)."""
    xp = array_module(vectors)
    total = xp.zeros((vectors.shape[0], projections.shape[1]), xp.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for element in range(projections.shape[0]):
            total += vectors[:, element, None] * projections[None, element, :]
    return total


def mix(keys: Array) -> Array:
    """Folds uint64 `keys [V, n]` into one int64 code per row (docs/operators.md, `mix`)."""
    xp = array_module(keys)
    state = xp.full(keys.shape[0], MIX_SEED, xp.uint64)
    for column in range(keys.shape[1]):
        state = (state ^ keys[:, column]) * xp.uint64(MIX_FACTOR)
        state = state ^ (state >> xp.uint64(MIX_SHIFT))
    return state.view(xp.int64)


class HashFamily(ABC):
    """One way to hash neuron vectors; stateless, its parameters travel as `HashParameters`."""

    name: str
    max_hashes: int = 64
    lossless: bool = False
    needs_samples: bool = False
    """Parameters can only be fitted, never drawn."""
    tried_hashes: ClassVar[Mapping[str, tuple[int, ...]]]
    """Values of H that calibration tries with each of its budgets."""

    @abstractmethod
    def codes(self, vectors: Array, parameters: HashParameters, length: int) -> Array:
        """Returns int64 codes [V] of float32 `vectors [V, L]`, of which only the first `length` columns are real."""

    @abstractmethod
    def parameter_shapes(self, num_blocks: int, length: int, num_hashes: int) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the parameters that must be given, by name."""

    def optional_parameter_shapes(self, num_blocks: int, length: int) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the parameters that may be given."""
        return {}

    @abstractmethod
    def random_parameters(
        self, rng: np.random.Generator, num_blocks: int, length: int, num_hashes: int
    ) -> HashParameters:
        """Draws parameters that need no samples; families that must be fitted raise ConfigError."""

    def fit(self, sample: FitSample, num_hashes: Sequence[int], all_codes: Sequence[bool] = ()) -> list[HashParameters]:
        """Returns the parameters for each value of H, fitted to a sample; this draws them.

        `all_codes` tells for which of them every code is to be given to some vectors (none, if it is left out): a
        static table has a row for each, used or not.
        """
        blocks, _, length = sample.vectors.shape
        return [self.random_parameters(sample.generator(), blocks, length, own) for own in num_hashes]

    def operations_per_element(self, num_hashes: int, length: int) -> float:
        """Multiply-adds (or as dear) that hashing takes per element of a vector."""
        return float(num_hashes)

    def max_clusters(self, num_hashes: int) -> int | None:
        """Returns the largest number of different codes, or None if codes are unbounded."""
        return None

    def expected_clusters(self, num_hashes: int) -> int:
        """Returns how many clusters fitted parameters are sure to make if inputs are varied; 0 if nobody knows."""
        return 0
