"""The input of a measured layer: neuron vectors that repeat as asked, and hash parameters that tell them apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.benchmark.arrangement import find_cells, pixel_labels
from reuse_compiler.benchmark.case import ConvCase
from reuse_compiler.benchmark.trees import fit_tree
from reuse_compiler.fitting.centroids import means_by_code
from reuse_compiler.fitting.vectors import neuron_vectors
from reuse_compiler.reuse.config import FamilyName
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.runtime.clustering import cluster_ids

Floats = NDArray[np.float32]
BYTE_STEP, BYTE_ZERO_POINT = 1 / 32, 128
"""Of the input of a quantised layer: its scale and its zero point."""
DRAWS = 64
"""So many times vectors are drawn in search of ones that random hyperplanes tell apart."""


@dataclass(frozen=True)
class LayerInput:
    """An input, the hash parameters fitted to it and what the operators must find in it."""

    x: Floats
    """[N, Ic, H, W]"""
    num_hashes: int
    parameters: HashParameters
    distinct: tuple[int, ...]
    """Distinct vectors of each block."""
    clusters: tuple[int, ...]
    """Distinct codes of each block: its clusters."""
    cells: str | None = None
    """In the patch layout, what the image consists of, in words."""
    centroids: Floats | None = None
    """Those of scope static: the distinct vectors themselves, by code (their mean where several share one)."""


def build_input(case: ConvCase) -> LayerInput:
    """Returns the input of a case: exactly as redundant as asked (channel), or as nearly as windows allow (patch)."""
    rng = np.random.default_rng(case.seed)
    return _patch_input(case, rng) if case.blocking.layout == "patch" else _channel_input(case, rng)


def _channel_input(case: ConvCase, rng: np.random.Generator) -> LayerInput:
    """Each block has `case.distinct` vectors of its own, placed independently of the other blocks'."""
    g, blocking = case.spec, case.blocking
    num_hashes = case.hashes_for(case.distinct)
    drawn = _random_parameters(case, rng, num_hashes)
    x, palettes = np.empty(case.spec.input_shape, np.float32), []
    for block in range(blocking.num_blocks):
        length = blocking.block_length(block)
        palette = _draw_palette(case, rng, length, drawn.block(block))
        values = palette[pixel_labels(rng, g, case.distinct, case.order), :length]
        first = block // blocking.blocks_per_group * g.group_in_channels + blocking.block_start(block)
        images = values.reshape(g.batch, g.in_height, g.in_width, length)
        x[:, first : first + length] = images.transpose(0, 3, 1, 2)
        palettes.append(palette)
    return _finish(case, x, num_hashes, drawn, palettes, None)


def _patch_input(case: ConvCase, rng: np.random.Generator) -> LayerInput:
    """An image of repeated rectangles, whose windows repeat; how many are distinct follows from their size."""
    g, blocking = case.spec, case.blocking
    cells = find_cells(blocking, case.distinct, case.order)
    labels = cells.labels(g)
    colours = _values(case, rng, (int(labels.max()) + 1, g.in_channels))
    x = np.ascontiguousarray(colours[labels].transpose(0, 3, 1, 2))
    palettes = []
    for vectors in neuron_vectors(x, blocking):
        palettes.append(vectors[_first_of_each(cluster_ids(vectors, "exact", 1, HashParameters()))])
    num_hashes = case.hashes_for(max(map(len, palettes)))
    drawn = _random_parameters(case, rng, num_hashes)
    kind = "flat, each of its own colour" if case.order == "local" else "one texture, repeated"
    return _finish(case, x, num_hashes, drawn, palettes, f"rectangles of {cells.height}x{cells.width} pixels, {kind}")


def _finish(
    case: ConvCase, x: Floats, num_hashes: int, parameters: HashParameters, palettes: list[Floats], cells: str | None
) -> LayerInput:
    """Fits what is fitted, and counts the clusters that the operators must find."""
    if case.family == "learned":
        parameters = _fit_trees(palettes, num_hashes)
    distinct, clusters = tuple(map(len, palettes)), _count_codes(case.family, num_hashes, palettes, parameters)
    # Windows share elements, so that trees cannot always split them evenly: they may need a few levels more.
    while case.family == "learned" and case.num_hashes is None and clusters != distinct:
        if num_hashes == FAMILIES["learned"].max_hashes:
            break
        num_hashes += 1
        parameters = _fit_trees(palettes, num_hashes)
        clusters = _count_codes(case.family, num_hashes, palettes, parameters)
    centroids = _centroids(case, num_hashes, palettes, parameters) if case.scope == "static" else None
    return LayerInput(x, num_hashes, parameters, distinct, clusters, cells, centroids)


def _centroids(case: ConvCase, num_hashes: int, palettes: list[Floats], parameters: HashParameters) -> Floats:
    family, centroids = FAMILIES[case.family], []
    for block, palette in enumerate(palettes):
        codes = family.codes(palette, parameters.block(block), case.blocking.block_length(block))
        centroids.append(means_by_code(palette[None], codes[None], num_hashes)[0])
    return np.stack(centroids)


def _fit_trees(palettes: list[Floats], num_hashes: int) -> HashParameters:
    """Fits a tree to the distinct vectors of each block."""
    coordinates, thresholds = zip(*(fit_tree(palette, num_hashes) for palette in palettes), strict=True)
    return HashParameters(coordinates=np.stack(coordinates), thresholds=np.stack(thresholds))


def _count_codes(
    family: FamilyName, num_hashes: int, palettes: list[Floats], parameters: HashParameters
) -> tuple[int, ...]:
    """Returns the distinct codes of each block's vectors."""
    return tuple(
        len(np.unique(cluster_ids(palette, family, num_hashes, parameters.block(block))))
        for block, palette in enumerate(palettes)
    )


def _first_of_each(ids: NDArray[np.int32]) -> NDArray[np.intp]:
    """Returns the index of each cluster's first vector, in their order."""
    return np.sort(np.unique(ids, return_index=True)[1])


def _random_parameters(case: ConvCase, rng: np.random.Generator, num_hashes: int) -> HashParameters:
    if case.family == "learned":
        return HashParameters()  # fitted once the vectors are known
    blocking = case.blocking
    family = FAMILIES[case.family]
    return family.random_parameters(rng, blocking.num_blocks, blocking.sub_vector_length, num_hashes)


def _draw_palette(case: ConvCase, rng: np.random.Generator, length: int, parameters: HashParameters) -> Floats:
    """Draws `case.distinct` distinct vectors [C, L], zero beyond `length`; for `sign` with distinct codes if it can."""
    family: FamilyName = "sign" if case.family == "sign" else "exact"
    own, num_hashes = (parameters, case.hashes_for(case.distinct)) if family == "sign" else (HashParameters(), 1)
    palette = np.zeros((0, case.blocking.sub_vector_length), np.float32)
    for _ in range(DRAWS):
        palette = np.concatenate([palette, _draw(case, rng, length)])
        palette = palette[_first_of_each(cluster_ids(palette, family, num_hashes, own))]
        if len(palette) >= case.distinct:
            return palette[: case.distinct]
    # Too few codes exist: some vectors will share one.
    rest = case.distinct - len(palette)
    return np.concatenate([palette, _draw(case, rng, length)[:rest]])


def _draw(case: ConvCase, rng: np.random.Generator, length: int) -> Floats:
    vectors = np.zeros((case.distinct, case.blocking.sub_vector_length), np.float32)
    vectors[:, :length] = _values(case, rng, (case.distinct, length))
    return vectors


def _values(case: ConvCase, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Returns random values; of a quantised layer what bytes stand for, all of which are equally likely."""
    if case.spec.is_quantised:
        steps = rng.integers(0, 256, shape) - BYTE_ZERO_POINT
        return steps.astype(np.float32) * np.float32(BYTE_STEP)
    return rng.standard_normal(shape).astype(np.float32)
