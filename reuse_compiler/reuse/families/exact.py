"""Family `exact`: a 64-bit fingerprint of a vector's bits; the Cluster operator verifies members, so it is lossless."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from reuse_compiler.reuse.families.base import Array, HashFamily, HashParameters, array_module, mix


class Exact(HashFamily):
    """Only identical vectors share a cluster."""

    name = "exact"
    lossless = True
    tried_hashes: ClassVar = dict.fromkeys(("quick", "default", "extensive"), (1,))  # H means nothing here

    def codes(self, vectors: Array, parameters: HashParameters, length: int) -> Array:
        xp = array_module(vectors)
        bits = xp.ascontiguousarray(vectors[:, :length], dtype=xp.float32).view(xp.uint32)
        return mix(bits.astype(xp.uint64))

    def parameter_shapes(self, num_blocks: int, length: int, num_hashes: int) -> dict[str, tuple[int, ...]]:
        return {}

    def random_parameters(
        self, rng: np.random.Generator, num_blocks: int, length: int, num_hashes: int
    ) -> HashParameters:
        return HashParameters()

    def operations_per_element(self, num_hashes: int, length: int) -> float:
        return 1.0  # one multiplication of the fingerprint
