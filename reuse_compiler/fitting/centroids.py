"""The centroids of scope static: one for each code that a layer's hash can give, fixed to samples of its input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.fitting.vectors import Floats, cut
from reuse_compiler.processors import processors
from reuse_compiler.reuse.config import LayerSettings
from reuse_compiler.reuse.families import HashParameters
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from reuse_compiler.runtime.clustering import ClusteringPlan

Codes = NDArray[np.int64]


def static_centroids(vectors: Floats, spec: ConvSpec, settings: LayerSettings, parameters: HashParameters) -> Floats:
    """Returns centroids `[B, 2^H, L]` of a layer, fitted to finite whole neuron vectors `[n, ...]` (`vectors_at`)."""
    # They are taken as one row of pixels, whatever the layout in which they were drawn.
    loose = ConvSpec(1, vectors.shape[1], 1, len(vectors), spec.group, (1, 1), group=spec.group)
    blocking = Blocking(loose, "channel", settings.sub_vector_length)
    own = settings.model_copy(update={"layout": blocking.layout, "scope": "batch"})
    plan = ClusteringPlan(blocking, own, parameters, keep_codes=True, pixel_major_input=True)
    found = plan.clusters(vectors[None, None], processors())
    codes = np.stack([found.codes(block)[ids] for block, ids in enumerate(found.ids)])
    return means_by_code(cut(vectors, blocking), codes, settings.num_hashes)


def means_by_code(blocks: Floats, codes: Codes, num_hashes: int) -> Floats:
    """Returns `[B, 2^H, L]`: by code the mean of those of `blocks [B, n, L]` (n > 0) that have it.

    A code that none has gets the mean of its nearest ancestor that has some: of the vectors whose codes begin with the
    same bits, as many of them as can be. In a tree those are the leaves below the same branch.
    """
    return np.stack([_means(*block, num_hashes) for block in zip(blocks, codes, strict=True)])


def _means(vectors: Floats, codes: Codes, num_hashes: int) -> Floats:
    columns = [np.bincount(codes, column, 2**num_hashes) for column in vectors.T.astype(np.float64)]
    levels = [(np.bincount(codes, minlength=2**num_hashes)[:, None], np.stack(columns, axis=1))]
    for _ in range(num_hashes):
        counts, sums = levels[-1]
        levels.append((counts[::2] + counts[1::2], sums[::2] + sums[1::2]))
    means = np.zeros((1, vectors.shape[1]))
    for counts, sums in reversed(levels):
        means = np.where(counts > 0, sums / np.maximum(counts, 1), means.repeat(len(sums) // len(means), axis=0))
    return means.astype(np.float32)
