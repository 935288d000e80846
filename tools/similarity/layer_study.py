"""One layer computed from the centroids of its clusters, in all the ways that a study compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reuse_compiler.calibration.metric_kinds import Accumulator
from reuse_compiler.calibration.samples import Sample
from reuse_compiler.fitting.vectors import lifted, neuron_vectors
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.progress import ProgressCallback
from reuse_compiler.reference.vectors import block_weights
from reuse_compiler.reuse.config import Metric
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.verification.compare import Difference
from tools.similarity.clustering import Clustering, VectorSets
from tools.similarity.clustering.vectors import vector_sets
from tools.similarity.report import Scope, SimilarityPoint, StudiedLayer
from tools.similarity.split_network import SplitNetwork

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Form:
    """How neuron vectors are made, which of them may share a cluster, and by what distance; L is 0 for whole rows."""

    length: int
    scope: Scope
    metric: Metric


@dataclass(frozen=True)
class Sweep:
    """A method and the efforts that it is tried with."""

    clustering: Clustering
    efforts: Sequence[float]


@dataclass
class _Curve:
    """What is summed up over batches for one form, method and effort."""

    accuracy: Accumulator | None
    difference: Difference = field(default_factory=Difference)
    ratios: list[float] = field(default_factory=list)


def cut_vectors(layer: ConvLayer, x: Floats, form: Form) -> tuple[Blocking, list[VectorSets]]:
    """Cuts the layer's input `x` [N, Ic, H, W] into neuron vectors, ready to be clustered block by block."""
    blocking = _blocking(layer, x, form.length)
    vectors = neuron_vectors(x, blocking)
    return blocking, [
        vector_sets(vectors[block, :, : blocking.block_length(block)], block, form.scope, form.metric, len(x))
        for block in range(blocking.num_blocks)
    ]


def _blocking(layer: ConvLayer, x: Floats, length: int) -> Blocking:
    """Returns how the input is cut into vectors of `length` elements, 0 for whole rows."""
    spec = layer.spec.on(x.shape)
    return Blocking(spec, "patch", min(length or spec.columns, spec.columns))


def clustered_result(
    layer: ConvLayer, blocking: Blocking, sets: Sequence[VectorSets], clustering: Clustering, effort: float
) -> tuple[Floats, float]:
    """Returns the layer's result [N, M, Oh, Ow] from centroids, and r_c: clusters by vectors, averaged over blocks."""
    spec = blocking.spec
    panels = block_weights(layer.weights, blocking)
    rows = np.zeros((spec.group, spec.rows, spec.group_out_channels), np.float32)
    clusters = 0
    for block, each in enumerate(sets):
        found = each.clusters(clustering.assign(each, effort))
        products = found.centroids @ panels[block, : found.centroids.shape[1]]
        rows[block // blocking.blocks_per_group] += products[found.ids]
        clusters += found.count
    shape = (spec.group, spec.batch, spec.out_height, spec.out_width, spec.group_out_channels)
    result = rows.reshape(shape).transpose(1, 0, 4, 2, 3).reshape(spec.batch, -1, *shape[2:4])
    result += layer.biases[:, None, None]
    return np.ascontiguousarray(result), clusters / (len(sets) * spec.rows)


class LayerStudy:
    """The curves of one layer; batch after batch is added to them."""

    def __init__(
        self,
        layer: ConvLayer,
        split: SplitNetwork,
        sweeps: Sequence[Sweep],
        accuracy: Callable[[], Accumulator] | None,
    ) -> None:
        """`accuracy` begins to count right classes; None if the network does not classify."""
        self._layer, self._split, self._sweeps, self._accuracy = layer, split, sweeps, accuracy
        self._curves: dict[tuple[Form, str, float], _Curve] = {}
        self._left_out: dict[str, None] = {}
        self._original = accuracy and accuracy()
        self._whole: Blocking | None = None

    @property
    def original(self) -> float | None:
        """The accuracy of the network as it is."""
        return None if self._original is None else self._original.value()

    def add(self, sample: Sample, forms: Sequence[Form], progress: ProgressCallback) -> None:
        """Runs one batch through all forms, methods and efforts."""
        x, y, outputs = self._split.run(sample.feed)
        x = lifted(x)
        self._whole = _blocking(self._layer, x, 0)
        if self._original is not None:
            self._original.add(outputs, outputs, sample.labels)
        forms = list(dict.fromkeys(self._possible(form) for form in forms))
        for index, form in enumerate(forms):
            progress(f"{self._layer.name}: L={form.length}, {form.scope}, {form.metric}", index, len(forms))
            blocking, sets = cut_vectors(self._layer, x, form)
            for clustering, effort in self._attempts(form, sets[0].size):
                result, ratio = clustered_result(self._layer, blocking, sets, clustering, effort)
                result = result.reshape(y.shape)
                curve = self._curves.setdefault(
                    (form, clustering.name, effort), _Curve(self._accuracy and self._accuracy())
                )
                curve.ratios.append(ratio)
                curve.difference.add(y, result)
                if curve.accuracy is not None:
                    curve.accuracy.add(outputs, self._split.finish(sample.feed, result), sample.labels)

    def report(self) -> StudiedLayer:
        """Returns what was measured."""
        assert self._whole is not None, "no batch was added"
        spec = self._whole.spec
        return StudiedLayer(
            name=self._layer.name,
            N=spec.rows,
            K=spec.columns,
            M=spec.out_channels,
            points=[_point(key, curve, spec.columns) for key, curve in self._curves.items()],
            left_out=list(self._left_out),
        )

    def _possible(self, form: Form) -> Form:
        """Returns the form with a length that the layer has: 0 and what exceeds its rows are whole rows."""
        assert self._whole is not None
        width = self._whole.group_width
        return Form(min(form.length or width, width), form.scope, form.metric)

    def _attempts(self, form: Form, size: int) -> list[tuple[Clustering, float]]:
        """Returns all methods and efforts that work on sets of `size` vectors, and notes those that do not."""
        attempts = []
        for sweep in self._sweeps:
            method = sweep.clustering
            for effort in sweep.efforts:
                refusal = method.refusal(effort, size)
                if refusal is None:
                    attempts.append((method, effort))
                else:
                    self._left_out[f"{method.name}, scope {form.scope}, {method.effort} {effort:g}: {refusal}"] = None
        return attempts


def _point(key: tuple[Form, str, float], curve: _Curve, columns: int) -> SimilarityPoint:
    form, method, effort = key
    return SimilarityPoint(
        method=method,
        scope=form.scope,
        metric=form.metric,
        L=form.length,
        whole=form.length == columns,
        effort=effort,
        r_c=float(np.mean(curve.ratios)),
        accuracy=None if curve.accuracy is None else curve.accuracy.value(),
        output_error=curve.difference.rel_error,
    )
