"""Fits the hash parameters of a layer to samples of its input; one function per family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.calibration.layers import ConvLayer
from reuse_compiler.calibration.rows import choose_places, pixels_at, unfold_at, usable_rows
from reuse_compiler.calibration.trees import fit_trees
from reuse_compiler.reference.vectors import block_weights
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.families.base import project
from reuse_compiler.reuse.geometry import Blocking, Layout
from reuse_compiler.reuse.seeds import layer_generator

Floats = NDArray[np.float32]

BUCKETS_PER_DEVIATION = 1.0
"""Family `pstable`: width of a bucket over the standard deviation of the projections."""


@dataclass(frozen=True)
class VectorSample:
    """Whole neuron vectors of a layer: pixels `[n, Ic]` (channel), or rows of the unfolded input `[n, groups*K]`."""

    layer: ConvLayer
    vectors: Floats
    layout: Layout
    seed: int

    def blocks(self, blocking: Blocking) -> Floats:
        """Returns sampled vectors `[B, n, L]`; those of a short block end with zeros."""
        assert blocking.layout == self.layout
        vectors = np.zeros((blocking.num_blocks, len(self.vectors), blocking.sub_vector_length), np.float32)
        for block in range(blocking.num_blocks):
            group = block // blocking.blocks_per_group
            start, length = group * blocking.group_width + blocking.block_start(block), blocking.block_length(block)
            vectors[block, :, :length] = self.vectors[:, start : start + length]
        return vectors

    def blocking(self, length: int) -> Blocking:
        """Returns how an L cuts the layer."""
        return Blocking(self.layer.geometry, self.layout, length)


MOST_FLOATS = 2**25
"""Sampled values of a layer, at most: 128 MiB."""


class VectorSampler:
    """Collects neuron vectors from random places of a layer's inputs, as many from each of `runs` runs."""

    def __init__(self, layer: ConvLayer, layout: Layout, count: int, runs: int, seed: int) -> None:
        self._layer, self._layout, self._seed = layer, layout, seed
        g = layer.geometry
        width = g.group * g.columns if layout == "patch" else g.in_channels
        self._per_run = -(-min(count, MOST_FLOATS // width) // runs)
        self._random = layer_generator(seed, layer.name)
        self._parts: list[Floats] = []

    def add(self, x: Floats) -> None:
        """Takes vectors from an input as the model has it; those that are not usable are left out."""
        g, x = self._layer.geometry, self._layer.lift(x)
        if self._layout == "patch":
            places = choose_places(self._random, g.rows, self._per_run)
            vectors = np.concatenate([unfold_at(x, g, group, places) for group in range(g.group)], axis=1)
        else:
            vectors = pixels_at(x, choose_places(self._random, g.batch * g.in_height * g.in_width, self._per_run))
        self._parts.append(vectors[usable_rows(vectors)])

    def sample(self) -> VectorSample:
        """Returns all that was collected; one vector of zeros where nothing was usable, to have something to fit to."""
        vectors = np.concatenate(self._parts)
        if not len(vectors):
            vectors = np.zeros((1, vectors.shape[1]), np.float32)
        return VectorSample(self._layer, vectors, self._layout, self._seed)


class HashFitter:
    """Fits parameters for settings of the sample's layout; trees of all `depths` (H) are fitted at once for an L."""

    def __init__(self, sample: VectorSample, depths: Sequence[int]) -> None:
        self._sample, self._depths = sample, sorted(set(depths))
        self._trees: dict[int, list[HashParameters]] = {}

    def fit(self, settings: LayerSettings) -> HashParameters:
        """Returns the parameters that the settings' family needs, fitted to the sample."""
        return _FITS[settings.family](self, settings)

    def _learned(self, settings: LayerSettings) -> HashParameters:
        length = settings.sub_vector_length
        if length not in self._trees:
            blocking = self._sample.blocking(length)
            weights = block_weights(self._sample.layer.weight, blocking)
            self._trees[length] = fit_trees(self._sample.blocks(blocking), weights, self._depths)
        return self._trees[length][self._depths.index(settings.num_hashes)]

    def _sign(self, settings: LayerSettings) -> HashParameters:
        """Random hyperplanes (papers' Eq. 1), moved to the mean projection."""
        drawn = self._drawn(settings)
        thresholds = np.stack([projected.mean(axis=0) for projected in self._projected(settings, drawn)])
        return HashParameters(projections=drawn.projections, thresholds=thresholds)

    def _pstable(self, settings: LayerSettings) -> HashParameters:
        """Random directions, with buckets as wide as the vectors' own spread asks for."""
        drawn = self._drawn(settings)
        deviation = np.array([projected.std(axis=0).mean() for projected in self._projected(settings, drawn)])
        widths = np.where(deviation > 0, deviation / BUCKETS_PER_DEVIATION, 1.0).astype(np.float32)
        assert drawn.thresholds is not None and drawn.widths is not None
        thresholds = drawn.thresholds * (widths / drawn.widths)[:, None]
        return HashParameters(projections=drawn.projections, thresholds=thresholds, widths=widths)

    def _exact(self, settings: LayerSettings) -> HashParameters:
        return HashParameters()

    def _drawn(self, settings: LayerSettings) -> HashParameters:
        blocking = self._sample.blocking(settings.sub_vector_length)
        generator = layer_generator(self._sample.seed, self._sample.layer.name)
        return FAMILIES[settings.family].random_parameters(
            generator, blocking.num_blocks, settings.sub_vector_length, settings.num_hashes
        )

    def _projected(self, settings: LayerSettings, drawn: HashParameters) -> Iterator[Floats]:
        """Yields the projections `[n, H]` of the sample, block by block: those of all blocks may take gigabytes."""
        assert drawn.projections is not None
        vectors = self._sample.blocks(self._sample.blocking(settings.sub_vector_length))
        return (project(own, p) for own, p in zip(vectors, drawn.projections, strict=True))


_FITS: dict[str, Callable[[HashFitter, LayerSettings], HashParameters]] = {
    "learned": HashFitter._learned,
    "sign": HashFitter._sign,
    "pstable": HashFitter._pstable,
    "exact": HashFitter._exact,
}
assert set(_FITS) == set(FAMILIES)
