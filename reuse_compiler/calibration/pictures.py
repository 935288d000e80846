"""Pictures of which pixels share a cluster, for the report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.calibration.clusters import Clusterer
from reuse_compiler.calibration.deploy import input_of
from reuse_compiler.calibration.layers import Workpiece
from reuse_compiler.calibration.report import ClusterPicture
from reuse_compiler.reuse.plan import Plan
from reuse_compiler.verification.inputs import Feed

MOST_PICTURES = 4
LARGEST_SIDE = 160
"""Pixels; larger pictures are thinned out."""


def cluster_pictures(work: Workpiece, plan: Plan, feed: Feed) -> list[ClusterPicture]:
    """Returns the clusters of the first block of the first layers with reuse, for the first image of `feed`."""
    pictures = []
    for layer in [layer for layer in work.layers if layer.name in plan][:MOST_PICTURES]:
        own, g = plan[layer.name], layer.spec
        ((x,),) = input_of(work, plan, layer, [feed])
        ids, _ = Clusterer(own).ids_and_centroids(x)
        size = (g.out_height, g.out_width) if own.settings.layout == "patch" else (g.in_height, g.in_width)
        first = ids[0].reshape(g.batch, *size)[0]
        picture = ClusterPicture(layer=layer.name, block=0, ids=_thinned(first).tolist(), image=_image(feed))
        pictures.append(picture)
    return pictures


def _image(feed: Feed) -> list[list[list[int]]] | None:
    """Returns the first image of an input `[N, 3 or 1, H, W]`, its values stretched to 0..255."""
    for array in feed.values():
        if array.ndim == 4 and array.shape[1] in (1, 3) and array.dtype.kind == "f":
            values = np.nan_to_num(array[0].astype(np.float64), posinf=0.0, neginf=0.0).transpose(1, 2, 0)
            low, high = values.min(), values.max()
            pixels = ((values - low) * (255.0 / max(high - low, 1e-12))).astype(int)
            rgb: list[list[list[int]]] = _thinned(np.broadcast_to(pixels, (*pixels.shape[:2], 3))).tolist()
            return rgb
    return None


def _thinned(picture: NDArray[Any]) -> NDArray[Any]:
    step = -(-max(picture.shape[:2]) // LARGEST_SIDE)
    return picture[::step, ::step]
