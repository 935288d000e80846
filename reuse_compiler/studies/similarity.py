"""The study behind the inference paper's Fig. 6 and the training paper's Fig. 7, for any model and samples.

One layer at a time is computed from the centroids of clusters of its neuron vectors, the rest of the network as it is:
for each method, scope, distance, length of the vectors and effort this gives r_c, the accuracy and the layer's error.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from reuse_compiler.compiler import versions
from reuse_compiler.errors import ConfigError, DataError
from reuse_compiler.graph import load_model
from reuse_compiler.graph.shapes import bind_shapes, tensor_shapes
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.reference.vectors import block_weights, neuron_vectors
from reuse_compiler.reports.similarity import SimilarityPoint, SimilarityReport, StudiedLayer
from reuse_compiler.reuse.config import Metric, Scope
from reuse_compiler.reuse.geometry import Blocking
from reuse_compiler.studies.accuracy import Accuracy, class_output
from reuse_compiler.studies.clustering import Clustering, HyperCube, KMeans, LocalitySensitiveHashing, VectorSets
from reuse_compiler.studies.clustering.vectors import vector_sets
from reuse_compiler.studies.conv_layers import ConvLayer, ConvModel, find_layers
from reuse_compiler.studies.options import MethodName, SimilarityOptions
from reuse_compiler.studies.samples import Sample, Samples, open_samples
from reuse_compiler.studies.split_network import Outputs, SplitNetwork
from reuse_compiler.verification.compare import Difference
from reuse_compiler.verification.inputs import model_inputs

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sweep:
    """A method and the efforts that it is tried with. Others than the built-in ones can be studied, too."""

    clustering: Clustering
    efforts: Sequence[float]


@dataclass(frozen=True)
class Form:
    """How neuron vectors are made and may be clustered; L is 0 for whole rows."""

    length: int
    scope: Scope
    metric: Metric


@dataclass
class _Curve:
    """What was summed up over batches for one method, form and effort."""

    accuracy: Accuracy | None
    difference: Difference = field(default_factory=Difference)
    ratios: list[float] = field(default_factory=list)


def study_file(
    model_path: Path,
    data: Path,
    options: SimilarityOptions | None = None,
    *,
    labels: Path | None = None,
    progress: ProgressCallback = silent,
) -> SimilarityReport:
    """Studies layers of a model file on samples; see SimilarityOptions and `open_samples` for what can be given.

    Raises ModelError, ConfigError (no such layer), DataError (samples or labels) before any long work.
    """
    options = options or SimilarityOptions()
    progress("reading the model", 0, 0)
    model = load_model(model_path)
    shapes = _shapes(model, options)
    samples = open_samples(data, model_inputs(model), shapes, labels)
    return study_similarity(model, samples, options, name=str(model_path), folder=model_path.parent, progress=progress)


def study_similarity(
    model: onnx.ModelProto,
    samples: Samples,
    options: SimilarityOptions,
    sweeps: Sequence[Sweep] | None = None,
    *,
    name: str = "",
    folder: Path,
    progress: ProgressCallback = silent,
) -> SimilarityReport:
    """Studies layers of a model in memory; `sweeps` (default: those of the options) may hold further methods.

    `folder` may hold temporary copies of a model with external data.
    """
    start = time.monotonic()
    shapes = _shapes(model, options)
    network = find_layers(model, options.layers, shapes)
    output = class_output(model, tensor_shapes(model, shapes))
    if samples.has_labels and output is None:
        raise DataError("--labels: the model has no single output of the form [N, classes] that they could be for")
    study = _Study(network, samples, options, sweeps or built_in_sweeps(options), output, folder, progress)
    layers = [study.layer(layer) for layer in network.layers]
    return SimilarityReport(
        model=name,
        data=samples.description,
        accuracy=None if output is None else "top1" if samples.has_labels else "agreement",
        original=None if study.original is None else study.original.value,
        layers=layers,
        seconds=time.monotonic() - start,
        versions=versions(),
        options=options.model_dump(mode="json"),
    )


def built_in_sweeps(options: SimilarityOptions) -> list[Sweep]:
    """Returns the methods of the papers with the efforts that the options give."""
    known: Mapping[MethodName, Sweep] = {
        "kmeans": Sweep(KMeans(options.seed, options.iterations, options.max_clusters), options.clusters),
        "hypercube": Sweep(HyperCube(options.dimensions), options.bins),
        "lsh": Sweep(LocalitySensitiveHashing(options.seed), options.hashes),
    }
    return [known[method] for method in dict.fromkeys(options.methods)]


def clustered_result(
    layer: ConvLayer, blocking: Blocking, sets: Sequence[VectorSets], clustering: Clustering, effort: float
) -> tuple[Floats, float]:
    """Returns the layer's result [N, M, Oh, Ow] from centroids, and r_c: clusters by vectors, averaged over blocks."""
    geometry = blocking.geometry
    panels = block_weights(layer.weights, blocking)
    rows = np.zeros((geometry.group, geometry.rows, geometry.group_out_channels), np.float32)
    clusters = 0
    for block, each in enumerate(sets):
        found = each.clusters(clustering.assign(each, effort))
        products = found.centroids @ panels[block, : found.centroids.shape[1]]
        rows[block // blocking.blocks_per_group] += products[found.ids]
        clusters += found.count
    shape = (geometry.group, geometry.batch, geometry.out_height, geometry.out_width, geometry.group_out_channels)
    result = rows.reshape(shape).transpose(1, 0, 4, 2, 3).reshape(geometry.batch, -1, *shape[2:4])
    if layer.bias is not None:
        result += layer.bias[:, None, None]
    return np.ascontiguousarray(result), clusters / (len(sets) * geometry.rows)


class _Study:
    """What all layers of a study share."""

    def __init__(
        self,
        network: ConvModel,
        samples: Samples,
        options: SimilarityOptions,
        sweeps: Sequence[Sweep],
        output: str | None,
        folder: Path,
        progress: ProgressCallback,
    ) -> None:
        self._network, self._samples, self._options, self._sweeps = network, samples, options, sweeps
        self._output, self._folder, self._progress = output, folder, progress
        self.original: Accuracy | None = None
        """Accuracy of the network as it is; known after the first layer."""

    def layer(self, layer: ConvLayer) -> StudiedLayer:
        """Measures all curves of a layer."""
        split = SplitNetwork(self._network, layer, self._options.threads, self._folder)
        curves: dict[tuple[Form, str, float], _Curve] = {}
        left_out: dict[str, None] = {}
        original = self._accuracy()
        blocking = None
        for index, (sample, (x, y, outputs)) in enumerate(self._runs(split)):
            whole = layer.blocking(layer.lift(x), 0)
            blocking = blocking or whole
            if original is not None:
                original.add(outputs, outputs, sample.labels)
            forms = self._forms(whole)
            for number, form in enumerate(forms):
                what = f"{layer.name}: L={form.length}, {form.scope}, {form.metric}"
                self._progress(what, index * len(forms) + number, self._count * len(forms))
                self._measure(split, layer, form, sample, (x, y, outputs), curves, left_out)
        self.original = self.original or original
        assert blocking is not None  # a source has at least one feed
        geometry = blocking.geometry
        points = [_point(key, curve, geometry.columns) for key, curve in curves.items()]
        return StudiedLayer(
            name=layer.name,
            N=geometry.rows,
            K=geometry.columns,
            M=geometry.out_channels,
            points=points,
            left_out=list(left_out),
        )

    def _measure(
        self,
        split: SplitNetwork,
        layer: ConvLayer,
        form: Form,
        sample: Sample,
        run: tuple[Floats, Floats, Outputs],
        curves: dict[tuple[Form, str, float], _Curve],
        left_out: dict[str, None],
    ) -> None:
        """Adds one batch to the curves of a form."""
        x, y, outputs = run
        lifted = layer.lift(x)
        blocking = layer.blocking(lifted, form.length)
        vectors = neuron_vectors(lifted, blocking)
        sets = [
            vector_sets(vectors[block, :, : blocking.block_length(block)], block, form.scope, form.metric, len(x))
            for block in range(blocking.num_blocks)
        ]
        del vectors
        for sweep in self._sweeps:
            for effort in sweep.efforts:
                refusal = sweep.clustering.refusal(effort, sets[0].size)
                if refusal is not None:
                    left_out[
                        f"{sweep.clustering.name}, scope {form.scope}, {sweep.clustering.effort} {effort:g}: {refusal}"
                    ] = None
                    continue
                result, ratio = clustered_result(layer, blocking, sets, sweep.clustering, effort)
                result = result.reshape(y.shape)
                curve = curves.setdefault((form, sweep.clustering.name, effort), _Curve(self._accuracy()))
                curve.ratios.append(ratio)
                curve.difference.add(y, result)
                if curve.accuracy is not None:
                    curve.accuracy.add(outputs, split.finish(sample.feed, result), sample.labels)

    def _forms(self, whole: Blocking) -> list[Form]:
        """Returns all ways to make vectors, with lengths that the layer has; several names of one length are one."""
        lengths = dict.fromkeys(min(length or whole.group_width, whole.group_width) for length in self._options.lengths)
        return [
            Form(length, scope, metric)
            for length in lengths
            for scope in dict.fromkeys(self._options.scopes)
            for metric in dict.fromkeys(self._options.metrics)
        ]

    @property
    def _count(self) -> int:
        """Runs that are used."""
        if self._options.samples is None:
            return len(self._samples)
        return min(len(self._samples), max(1, self._options.samples // self._options.batch))

    def _runs(self, split: SplitNetwork) -> Iterator[tuple[Sample, tuple[Floats, Floats, Outputs]]]:
        for sample in islice(self._samples, self._count):
            yield sample, split.run(sample.feed)

    def _accuracy(self) -> Accuracy | None:
        return None if self._output is None else Accuracy(self._output)


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
        accuracy=None if curve.accuracy is None else curve.accuracy.value,
        output_error=curve.difference.rel_error,
    )


def _shapes(model: onnx.ModelProto, options: SimilarityOptions) -> dict[str, tuple[int, ...]]:
    """Returns concrete shapes of the inputs, with the batch that was asked for where the model leaves it open."""
    bound = bind_shapes(model, options.shapes, warn=False)
    free = [spec.name for spec in model_inputs(model) if spec.dims and isinstance(spec.dims[0], str)]
    if options.batch > 1 and bound and not free:
        fixed = {name: shape[0] for name, shape in bound.items() if shape}
        if options.batch not in fixed.values():
            raise ConfigError(f"--batch: the model fixes its batch, to {max(fixed.values(), default=1)}; leave it out")
    return bound | {n: (options.batch, *bound[n][1:]) for n in free if n in bound and n not in options.shapes}
