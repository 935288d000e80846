"""The report of a study of similarity, as written into similarity.json and drawn in similarity.html."""

from __future__ import annotations

from typing import Any, Literal

from reuse_compiler.report import Report
from reuse_compiler.reuse.config import Metric

Scope = Literal["image", "batch"]
"""The scopes that are studied: clusters of several batches have a study of their own."""


class SimilarityPoint(Report):
    """One layer computed from the centroids of its clusters, the rest of the network as it is."""

    method: str
    scope: Scope
    metric: Metric
    L: int
    whole: bool
    """Whether a vector is a whole row of the unfolded input."""
    effort: float
    """The method's knob: clusters of K-means (below 1 as a share), bins of Hyper-Cube, H of LSH."""
    r_c: float
    accuracy: float | None
    """None for networks that do not classify."""
    output_error: float
    """Relative L2 error of the layer's result, before the activation."""


class StudiedLayer(Report):
    """The curves of one layer."""

    name: str
    N: int
    """Rows of the unfolded input of a batch."""
    K: int
    M: int
    points: list[SimilarityPoint]
    left_out: list[str]
    """What was asked for but not measured, and why."""


class SimilarityReport(Report):
    """A whole study."""

    model: str
    data: str
    """The samples, in words."""
    accuracy: Literal["top1", "agreement"] | None
    """What the accuracies are; None for networks that do not classify."""
    original: float | None
    """The accuracy of the network as it is."""
    layers: list[StudiedLayer]
    seconds: float
    versions: dict[str, str]
    options: dict[str, Any]
