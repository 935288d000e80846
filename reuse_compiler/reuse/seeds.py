"""Random generators by layer, so that a layer draws the same numbers whatever else is in the model."""

from __future__ import annotations

import hashlib

import numpy as np


def layer_generator(seed: int, layer: str) -> np.random.Generator:
    """Returns the generator of a layer: the same in every process."""
    digest = np.frombuffer(hashlib.sha256(layer.encode()).digest(), "<u4")
    return np.random.default_rng([seed, *map(int, digest)])
