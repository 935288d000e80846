"""The study behind the inference paper's Fig. 6 and the training paper's Fig. 7, for any model and samples.

One layer at a time is computed from the centroids of clusters of its neuron vectors, the rest of the network as it is:
for each method, scope, distance, length of the vectors and effort this gives r_c, the accuracy and the layer's error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from reuse_compiler.calibration.metric_kinds import Agreement, Top1
from reuse_compiler.calibration.samples import Samples, open_samples
from reuse_compiler.environment import versions
from reuse_compiler.errors import ConfigError, DataError
from reuse_compiler.graph import load_model
from reuse_compiler.graph.shapes import bind_shapes, tensor_shapes
from reuse_compiler.passes.layer import ConvLayer
from reuse_compiler.paths import AnyPath
from reuse_compiler.pipeline import find_layers
from reuse_compiler.progress import ProgressCallback, silent
from reuse_compiler.runtime import with_libraries
from reuse_compiler.verification.data import Shapes
from reuse_compiler.verification.inputs import model_inputs
from tools.similarity.clustering import HyperCube, KMeans, LocalitySensitiveHashing
from tools.similarity.layer_study import Form, LayerStudy, Sweep
from tools.similarity.options import MethodName, SimilarityOptions
from tools.similarity.report import SimilarityReport
from tools.similarity.split_network import SplitNetwork


def study_file(
    model_path: AnyPath,
    data: AnyPath,
    options: SimilarityOptions | None = None,
    *,
    labels: AnyPath | None = None,
    progress: ProgressCallback = silent,
) -> SimilarityReport:
    """Studies layers of a model file on samples; see SimilarityOptions and `open_samples` for what can be given.

    Raises ModelError, ConfigError (no such layer), DataError (samples or labels) before any long work.
    """
    options = options or SimilarityOptions()
    progress("reading the model", 0, 0)
    model = load_model(model_path)
    samples = open_samples(data, model_inputs(model), _shapes(model, options), labels)
    path = Path(model_path)
    with with_libraries(options.custom_op_libraries):
        return study_similarity(model, samples, options, name=str(path), folder=path.parent, progress=progress)


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
    if options.samples is not None:
        samples = samples.subset(range(min(len(samples), max(1, options.samples // options.batch))))
    shapes = _shapes(model, options)
    prepared, layers = layers_to_study(model, options.layers, shapes)
    output = class_output(model, tensor_shapes(model, shapes))
    metric = None if output is None else Top1(output) if samples.has_labels else Agreement(output)
    if samples.has_labels and metric is None:
        raise DataError("--labels: the model has no single output of the form [N, classes] that they could be for")
    studies = []
    for layer in layers:
        split = SplitNetwork(prepared, layer, options.threads, folder)
        study = LayerStudy(layer, split, sweeps or built_in_sweeps(options), None if metric is None else metric.start)
        for index, sample in enumerate(samples):
            study.add(sample, forms(options), _within(progress, index, len(samples)))
        studies.append(study)
    return SimilarityReport(
        model=name,
        data=samples.description,
        accuracy=None if metric is None else "top1" if samples.has_labels else "agreement",
        original=studies[0].original,
        layers=[study.report() for study in studies],
        seconds=time.monotonic() - start,
        versions=versions(),
        options=options.model_dump(mode="json"),
    )


def layers_to_study(model: onnx.ModelProto, pattern: str, shapes: Shapes) -> tuple[onnx.ModelProto, list[ConvLayer]]:
    """Returns the model and those of its layers in whose names `pattern` is found; raises ConfigError for none."""
    prepared = find_layers(model, shapes)
    layers = prepared.layers
    if not layers:
        raise ConfigError("the model has no convolution, so there are no neuron vectors to study")
    matching = [layer for layer in layers if re.search(pattern, layer.name)]
    if not matching:
        names = ", ".join(layer.name for layer in layers)
        raise ConfigError(f"--layer: '{pattern}' is found in no name of a convolution; they are {names}")
    possible = [each for each in matching if isinstance(each, ConvLayer) and each.refusal is None and each.in_main]
    if not possible:
        reason = matching[0].refusal or "it stands in the body of an If or Loop"
        raise ConfigError(f"--layer: '{matching[0].name}' cannot be studied: {reason}")
    return prepared.model, possible


def class_output(model: onnx.ModelProto, shapes: Mapping[str, tuple[int | None, ...]]) -> str | None:
    """Returns the model's only output of the form [N, classes], or None if it has none or several."""
    names = [value.name for value in model.graph.output]
    found = [name for name in names if len(shapes.get(name, ())) == 2 and shapes[name][1] not in (0, 1)]
    return found[0] if len(found) == 1 else None


def forms(options: SimilarityOptions) -> list[Form]:
    """Returns all combinations of length, scope and distance."""
    return [
        Form(length, scope, metric)
        for length in options.lengths
        for scope in options.scopes
        for metric in options.metrics
    ]


def built_in_sweeps(options: SimilarityOptions) -> list[Sweep]:
    """Returns the methods of the papers with the efforts that the options give."""
    known: Mapping[MethodName, Sweep] = {
        "kmeans": Sweep(KMeans(options.seed, options.iterations, options.max_clusters), options.clusters),
        "hypercube": Sweep(HyperCube(options.dimensions), options.bins),
        "lsh": Sweep(LocalitySensitiveHashing(options.seed), options.hashes),
    }
    return [known[method] for method in dict.fromkeys(options.methods)]


def _within(progress: ProgressCallback, part: int, parts: int) -> ProgressCallback:
    """Returns a callback for one of several equal parts of the work."""
    return lambda what, done, total: progress(what, part * total + done, parts * total)


def _shapes(model: onnx.ModelProto, options: SimilarityOptions) -> dict[str, tuple[int, ...]]:
    """Returns concrete shapes of the inputs, with the batch that was asked for where the model leaves it open."""
    bound = bind_shapes(model, options.shapes, warn=False)
    free = [spec.name for spec in model_inputs(model) if spec.dims and isinstance(spec.dims[0], str)]
    fixed = {shape[0] for name, shape in bound.items() if shape and name not in free}
    if options.batch > 1 and not free and options.batch not in fixed:
        raise ConfigError(f"--batch: the model fixes its batch, to {max(fixed, default=1)}; leave the flag out")
    return bound | {name: (options.batch, *bound[name][1:]) for name in free if name not in options.shapes}
