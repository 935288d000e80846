"""Fits the hash parameters of a layer to samples of its input; one function per family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.fitting.trees import fit_trees
from reuse_compiler.fitting.vectors import all_places, choose_places, cut, lifted, usable_rows, vectors_at
from reuse_compiler.reference.vectors import block_weights
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.families.base import project
from reuse_compiler.reuse.geometry import ConvSpec, Layout
from reuse_compiler.reuse.seeds import layer_generator

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class VectorSample:
    """Whole neuron vectors of a layer, as `vectors_at` has them."""

    layer: str
    spec: ConvSpec
    layout: Layout
    vectors: Floats
    seed: int


MOST_FLOATS = 2**25
"""Sampled values of a layer, at most: 128 MiB."""


class VectorSampler:
    """Collects neuron vectors from random places of a layer's inputs, as many from each of `runs` runs."""

    def __init__(self, layer: str, spec: ConvSpec, layout: Layout, count: int, runs: int, seed: int) -> None:
        self._empty = VectorSample(layer, spec, layout, np.zeros((0, 0), np.float32), seed)
        width = spec.group * spec.columns if layout == "patch" else spec.in_channels
        self._per_run = -(-min(count, MOST_FLOATS // width) // runs)
        self._random = layer_generator(seed, layer)
        self._parts: list[Floats] = []

    def add(self, x: Floats) -> None:
        """Takes vectors from an input as the model has it; those that are not usable are left out."""
        spec, layout = self._empty.spec, self._empty.layout
        places = choose_places(self._random, len(all_places(spec, layout)), self._per_run)
        vectors = vectors_at(lifted(x), spec, layout, places)
        self._parts.append(vectors[usable_rows(vectors)])

    def sample(self) -> VectorSample:
        """Returns all that was collected; one vector of zeros where nothing was usable, to have something to fit to."""
        vectors = np.concatenate(self._parts)
        if not len(vectors):
            vectors = np.zeros((1, vectors.shape[1]), np.float32)
        return replace(self._empty, vectors=vectors)


class HashFitter:
    """Fits parameters for settings of the sample's layout; trees of all `depths` (H) are fitted at once for an L.

    `weights` `[M, Ic/group, kh, kw]` are what the vectors are multiplied with.
    """

    def __init__(self, sample: VectorSample, weights: Floats, depths: Sequence[int]) -> None:
        self._sample, self._weights, self._depths = sample, weights, sorted(set(depths))
        self._trees: dict[int, list[HashParameters]] = {}

    def fit(self, settings: LayerSettings) -> HashParameters:
        """Returns the parameters that the settings' family needs, fitted to the sample."""
        return _FITS[settings.family](self, settings)

    def _learned(self, settings: LayerSettings) -> HashParameters:
        length = settings.sub_vector_length
        if length not in self._trees:
            blocking = settings.blocking(self._sample.spec)
            weights = block_weights(self._weights, blocking)
            self._trees[length] = fit_trees(cut(self._sample.vectors, blocking), weights, self._depths)
        return self._trees[length][self._depths.index(settings.num_hashes)]

    def _sign(self, settings: LayerSettings) -> HashParameters:
        """Random hyperplanes (papers' Eq. 1), moved to the mean projection."""
        drawn = self._drawn(settings)
        thresholds = np.stack([projected.mean(axis=0) for projected in self._projected(settings, drawn)])
        return HashParameters(projections=drawn.projections, thresholds=thresholds)

    def _exact(self, settings: LayerSettings) -> HashParameters:
        return HashParameters()

    def _drawn(self, settings: LayerSettings) -> HashParameters:
        blocking = settings.blocking(self._sample.spec)
        generator = layer_generator(self._sample.seed, self._sample.layer)
        return FAMILIES[settings.family].random_parameters(
            generator, blocking.num_blocks, settings.sub_vector_length, settings.num_hashes
        )

    def _projected(self, settings: LayerSettings, drawn: HashParameters) -> Iterator[Floats]:
        """Yields the projections `[n, H]` of the sample, block by block: those of all blocks may take gigabytes."""
        assert drawn.projections is not None
        vectors = cut(self._sample.vectors, settings.blocking(self._sample.spec))
        return (project(own, p) for own, p in zip(vectors, drawn.projections, strict=True))


_FITS: dict[str, Callable[[HashFitter, LayerSettings], HashParameters]] = {
    "learned": HashFitter._learned,
    "sign": HashFitter._sign,
    "exact": HashFitter._exact,
}
assert set(_FITS) == set(FAMILIES)
