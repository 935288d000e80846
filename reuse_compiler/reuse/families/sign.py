"""Family `sign`: random hyperplanes, the papers' locality-sensitive hash (inference paper Eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from reuse_compiler.reuse.families.base import Array, FitSample, HashFamily, HashParameters, array_module, project


class Sign(HashFamily):
    """Bit h of the code tells on which side of hyperplane h a vector lies."""

    name = "sign"
    tried_hashes: ClassVar = {"quick": (10, 14), "default": (8, 10, 12, 14, 16), "extensive": tuple(range(6, 21, 2))}

    def codes(self, vectors: Array, parameters: HashParameters, length: int) -> Array:
        xp = array_module(vectors)
        bits = project(vectors, parameters.projections) > parameters.thresholds[None, :]  # type: ignore[index]
        weights = xp.uint64(1) << xp.arange(bits.shape[1], dtype=xp.uint64)
        return (bits.astype(xp.uint64) * weights).sum(axis=1, dtype=xp.uint64).view(xp.int64)

    def parameter_shapes(self, num_blocks: int, length: int, num_hashes: int) -> dict[str, tuple[int, ...]]:
        return {"projections": (num_blocks, length, num_hashes), "thresholds": (num_blocks, num_hashes)}

    def random_parameters(
        self, rng: np.random.Generator, num_blocks: int, length: int, num_hashes: int
    ) -> HashParameters:
        projections = rng.standard_normal((num_blocks, length, num_hashes)).astype(np.float32)
        return HashParameters(projections=projections, thresholds=np.zeros((num_blocks, num_hashes), np.float32))

    def fit(self, sample: FitSample, num_hashes: Sequence[int], all_codes: Sequence[bool] = ()) -> list[HashParameters]:
        """Moves random hyperplanes to the mean projection."""
        return [self._moved(drawn, sample) for drawn in super().fit(sample, num_hashes)]

    def _moved(self, drawn: HashParameters, sample: FitSample) -> HashParameters:
        assert drawn.projections is not None
        # Block by block: the projections of all may take gigabytes.
        means = [project(*block).mean(axis=0) for block in zip(sample.vectors, drawn.projections, strict=True)]
        return HashParameters(projections=drawn.projections, thresholds=np.stack(means))

    def max_clusters(self, num_hashes: int) -> int | None:
        return 1 << num_hashes
