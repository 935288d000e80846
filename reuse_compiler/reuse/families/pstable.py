"""Family `pstable`: floor((v.p + b) / w) with Gaussian p (2-stable), for Euclidean distance with bounded radius."""

from __future__ import annotations

import numpy as np

from reuse_compiler.reuse.families.base import Array, HashFamily, HashParameters, array_module, mix, project

DEFAULT_WIDTH = 1.0
"""w without samples: activations after normalisation have about unit scale."""
LARGEST_FLOOR = 2.0**62


class PStable(HashFamily):
    """Each of H integers tells in which slab of width w along a random direction a vector lies."""

    name = "pstable"

    def codes(self, vectors: Array, parameters: HashParameters, length: int) -> Array:
        xp = array_module(vectors)
        projected = project(vectors, parameters.projections)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            slabs = xp.floor((projected + parameters.thresholds[None, :]) / parameters.widths)  # type: ignore[index]
        slabs = xp.where(xp.isnan(slabs), xp.float32(0), slabs)
        slabs = xp.clip(slabs, -LARGEST_FLOOR, LARGEST_FLOOR).astype(xp.int64)
        return mix(slabs.view(xp.uint64))

    def parameter_shapes(self, num_blocks: int, length: int, num_hashes: int) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"projections": (num_blocks, length, num_hashes)}
        return shapes | {"thresholds": (num_blocks, num_hashes), "widths": (num_blocks,)}

    def random_parameters(
        self, rng: np.random.Generator, num_blocks: int, length: int, num_hashes: int
    ) -> HashParameters:
        return HashParameters(
            projections=rng.standard_normal((num_blocks, length, num_hashes)).astype(np.float32),
            thresholds=rng.uniform(0, DEFAULT_WIDTH, (num_blocks, num_hashes)).astype(np.float32),
            widths=np.full(num_blocks, DEFAULT_WIDTH, np.float32),
        )
