"""Samples of a layer's input, and the hash parameters and static centroids that are fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.fitting.centroids import static_centroids
from reuse_compiler.fitting.vectors import all_places, choose_places, cut, lifted, usable_rows, vectors_at
from reuse_compiler.reference.vectors import block_weights
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import FAMILIES, FitSample, HashParameters
from reuse_compiler.reuse.geometry import ConvSpec, Layout
from reuse_compiler.reuse.plan import LayerPlan
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
    """Fits what settings of the sample's layout need; parameters of one family and L for all their H at once.

    `weights` `[M, Ic/group, kh, kw]` are what the vectors are multiplied with, `wanted` the settings to be fitted.
    """

    def __init__(self, sample: VectorSample, weights: Floats, wanted: Sequence[LayerSettings] = ()) -> None:
        self._sample, self._weights, self._wanted = sample, weights, wanted
        self._fitted: dict[tuple[str, int, int, bool], HashParameters] = {}
        self._centroids: dict[tuple[str, int, int], Floats] = {}
        """Static ones by family, L and H, whatever type the table has."""

    def plan(self, settings: LayerSettings) -> LayerPlan:
        """Returns the settings' plan for the layer: with its parameters, and with centroids where scope is static."""
        spec, parameters = self._sample.spec, self.fit(settings)
        if settings.scope != "static":
            return LayerPlan(spec, settings, parameters)
        key = (*_kind(settings), settings.num_hashes)
        if key not in self._centroids:
            self._centroids[key] = static_centroids(self._sample.vectors, spec, settings, parameters)
        return LayerPlan(spec, settings, parameters, centroids=self._centroids[key])

    def fit(self, settings: LayerSettings) -> HashParameters:
        """Returns the parameters that the settings' family needs, fitted to the sample."""
        kind, tree = _kind(settings), _tree(settings)
        if (*kind, *tree) not in self._fitted:
            trees = sorted({tree, *(_tree(own) for own in self._wanted if _kind(own) == kind)})
            hashes, all_codes = zip(*trees, strict=True)
            blocking = settings.blocking(self._sample.spec)
            sample = FitSample(
                cut(self._sample.vectors, blocking),
                block_weights(self._weights, blocking),
                lambda: layer_generator(self._sample.seed, self._sample.layer),
            )
            for own, parameters in zip(trees, FAMILIES[settings.family].fit(sample, hashes, all_codes), strict=True):
                self._fitted[*kind, *own] = parameters
        return self._fitted[*kind, *tree]


def _kind(settings: LayerSettings) -> tuple[str, int]:
    """Returns what settings must agree in so that their parameters are fitted together."""
    return settings.family, settings.sub_vector_length


def _tree(settings: LayerSettings) -> tuple[int, bool]:
    """Returns what else tells parameters apart: H, and whether every code is to be given to some vectors."""
    return settings.num_hashes, settings.scope == "static"
