"""Family `learned`: a binary tree per block that splits on one (possibly rotated) coordinate at each node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.families.base import Array, FitSample, HashFamily, HashParameters, array_module, project
from reuse_compiler.reuse.families.trees import fit_trees, num_leaves


class Learned(HashFamily):
    """The code is the leaf that a vector reaches; the trees are fitted to samples of the layer's input."""

    name = "learned"
    max_hashes = 16
    needs_samples = True
    tried_hashes: ClassVar = {
        "quick": (8, 10, 12),
        "default": (8, 9, 10, 11, 12, 13),
        "extensive": tuple(range(7, 15)),
    }

    def codes(self, vectors: Array, parameters: HashParameters, length: int) -> Array:
        xp = array_module(vectors)
        coordinates, thresholds = parameters.coordinates, parameters.thresholds
        assert coordinates is not None and thresholds is not None
        values = vectors if parameters.projections is None else project(vectors, parameters.projections)
        depth = int(len(coordinates) + 1).bit_length() - 1
        node = xp.zeros(vectors.shape[0], xp.int64)
        for _ in range(depth):
            value = xp.take_along_axis(values, coordinates[node][:, None], axis=1)[:, 0]
            node = 2 * node + 1 + (value > thresholds[node])
        return node - (2**depth - 1)

    def parameter_shapes(self, num_blocks: int, length: int, num_hashes: int) -> dict[str, tuple[int, ...]]:
        nodes = 2**num_hashes - 1
        return {"thresholds": (num_blocks, nodes), "coordinates": (num_blocks, nodes)}

    def optional_parameter_shapes(self, num_blocks: int, length: int) -> dict[str, tuple[int, ...]]:
        return {"projections": (num_blocks, length, length)}

    def random_parameters(
        self, rng: np.random.Generator, num_blocks: int, length: int, num_hashes: int
    ) -> HashParameters:
        raise ConfigError(
            "family 'learned' needs trees fitted to samples: give a --config whose parameters_file holds them, "
            "or use --family sign, which needs no samples"
        )

    def fit(self, sample: FitSample, num_hashes: Sequence[int], all_codes: Sequence[bool] = ()) -> list[HashParameters]:
        return fit_trees(sample.vectors, sample.weights, num_hashes, all_codes)

    def operations_per_element(self, num_hashes: int, length: int) -> float:
        return num_hashes / length  # one comparison per hash and vector

    def max_clusters(self, num_hashes: int) -> int | None:
        return 1 << num_hashes

    def expected_clusters(self, num_hashes: int) -> int:
        return num_leaves(num_hashes)
