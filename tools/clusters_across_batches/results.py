"""What is written about clusters across batches as JSON."""

from __future__ import annotations

from reuse_compiler.benchmark.report import Machine
from reuse_compiler.report import Report


class LayerRates(Report):
    """One convolution whose clusters are kept, on the inputs that the original network gives it."""

    layer: str
    family: str
    layout: str
    L: int
    H: int
    rates: list[float]
    """R by batch: the share of vectors whose code an earlier batch had."""
    kept: int
    """Clusters in the end, over all blocks."""


class NetworkRates(Report):
    """A network's convolutions, or why there are none."""

    network: str
    images: str
    """Of each batch, in words."""
    layers: list[LayerRates]
    missing: str | None = None
    """Why the network or its images are not there."""


class Comparison(Report):
    """Layers with reuse, without cluster reuse across batches (scope batch, CR = 0) and with it (session, CR = 1)."""

    layers: str
    family: str
    L: str
    H: str
    images: int
    top1: tuple[float, float, float]
    """Of the original, with CR = 0 and with CR = 1."""
    ms: tuple[float, float, float]
    """Likewise the processor time of a run on a batch, medians of the later half of them."""
    rate: float
    """R over the later half of the runs with CR = 1."""


class AcrossBatches(Report):
    """The whole study."""

    command: str
    machine: Machine
    networks: list[NetworkRates]
    comparisons: list[Comparison]
