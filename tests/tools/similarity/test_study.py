"""A network whose layer is computed from centroids: what the study measures, on networks small and real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import builders, preprocessing
from reuse_compiler.calibration.samples import Samples
from reuse_compiler.errors import ConfigError, DataError
from reuse_compiler.graph.shapes import bind_shapes
from reuse_compiler.reference.operators import centroid_gemm, cluster_vectors, gather_rows
from reuse_compiler.reuse.config import Metric
from reuse_compiler.verification.data import ArraySource
from reuse_compiler.verification.inputs import model_inputs
from tests.comparison import assert_close, relative_error
from tests.conftest import ReadImages
from tests.passes.models import Array, conv_model, model_of, random_array, run, tensor, value
from tools.similarity.clustering import Clustering, KMeans, LocalitySensitiveHashing, VectorSets
from tools.similarity.clustering.vectors import Ids
from tools.similarity.layer_study import Form, Sweep, clustered_result, cut_vectors
from tools.similarity.options import SimilarityOptions
from tools.similarity.report import Scope, SimilarityPoint, SimilarityReport
from tools.similarity.study import layers_to_study, study_file, study_similarity

Study = Callable[..., SimilarityReport]

GEOMETRIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "padded": {"pads": [1, 2, 0, 1], "strides": [2, 1]},
    "same": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "dilated": {"dilations": [2, 1]},
    "grouped": {"group": 2, "weights": (6, 4, 3, 3), "shape": (2, 8, 9, 7)},
    "no bias": {"bias": False},
}


class OneCluster(Clustering):
    """A method of the user's own: all vectors of a set in one cluster."""

    name = "one"
    effort = "nothing"

    def assign(self, sets: VectorSets, effort: float) -> Ids:
        return np.zeros(sets.weights.shape, np.int64)


def classifier(batch: int | str = "N") -> onnx.ModelProto:
    """Two convolutions around a residual sum, then ten classes; input x [N, 3, 8, 8]."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r"], ["sum"]),
        helper.make_node("Flatten", ["sum"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w3"], ["y"]),
    ]
    constants = {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "w3": (256, 10)}
    initializers = [tensor(name, random_array(*shape)) for name, shape in constants.items()]
    return model_of(nodes, [value("x", [batch, 3, 8, 8])], [value("y", [batch, 10])], initializers)


def images(count: int, size: int = 8, colours: int | None = None) -> Array:
    """Random images; with `colours` their pixels are that many different ones."""
    if colours is None:
        return random_array(count, 3, size, size)
    palette = random_array(colours, 3)
    chosen = np.random.default_rng(1).integers(0, colours, (count, size, size))
    return np.ascontiguousarray(palette[chosen].transpose(0, 3, 1, 2))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Studies a model on an array of samples."""

    def run_study(
        model: onnx.ModelProto, data: Array, labels: Array | None = None, /, **options: Any
    ) -> SimilarityReport:
        onnx.save(model, tmp_path / "net.onnx")
        np.savez(tmp_path / "data.npz", allow_pickle=False, **{model.graph.input[0].name: data})
        labels_file = None
        if labels is not None:
            labels_file = tmp_path / "labels.npy"
            np.save(labels_file, labels)
        chosen = SimilarityOptions.model_validate(options)
        return study_file(tmp_path / "net.onnx", tmp_path / "data.npz", chosen, labels=labels_file)

    return run_study


def by_effort(report: SimilarityReport, layer: int = 0, **wanted: object) -> dict[float, SimilarityPoint]:
    points = report.layers[layer].points
    return {p.effort: p for p in points if all(getattr(p, name) == each for name, each in wanted.items())}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("scope", ["image", "batch"])
@pytest.mark.parametrize("metric", ["angular", "euclidean"])
@pytest.mark.parametrize("length", [0, 5])
def test_the_result_is_that_of_the_reference_operators(
    geometry: str, scope: Scope, metric: Metric, length: int
) -> None:
    model = conv_model(**{"shape": (2, 4, 9, 7)} | GEOMETRIES[geometry])
    (layer,) = layers_to_study(model, "conv", bind_shapes(model, {}))[1]
    x = random_array(*[dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim])
    method = LocalitySensitiveHashing(seed=3)
    blocking, sets = cut_vectors(layer, x, Form(length, scope, metric))
    actual, ratio = clustered_result(layer, blocking, sets, method, 4)

    codes = np.stack([method.assign(each, 4).reshape(-1) for each in sets])
    clusters = cluster_vectors(x, codes, blocking, scope, metric=metric)
    table = centroid_gemm(clusters.centroids, clusters.counts, layer.weights, blocking)
    assert_close(actual, gather_rows(table, clusters.ids, blocking, layer.biases))
    assert ratio == pytest.approx(clusters.counts.mean() / blocking.vectors)
    assert 0 < ratio < 1


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_with_a_cluster_for_each_vector_it_is_the_convolution(geometry: str) -> None:
    model = conv_model(**{"shape": (2, 4, 9, 7)} | GEOMETRIES[geometry])
    (layer,) = layers_to_study(model, "conv", bind_shapes(model, {}))[1]
    x = random_array(*[dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim])
    metrics: tuple[Metric, ...] = ("angular", "euclidean")
    for metric in metrics:
        blocking, sets = cut_vectors(layer, x, Form(6, "image", metric))
        actual, ratio = clustered_result(layer, blocking, sets, KMeans(), blocking.vectors)
        assert_close(actual, run(model, {"x": x})[0])
        assert 0.5 < ratio <= 1  # only vectors that lie in the padding are alike


def test_a_one_dimensional_convolution(study: Study) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1])]
    model = model_of(nodes, [value("x", [2, 3, 20])], [value("y", None)], [tensor("w", random_array(4, 3, 3))])
    report = study(model, random_array(2, 3, 20), methods=["kmeans"], clusters=[1, 20], batch=2)
    assert report.accuracy is None and report.original is None
    points = by_effort(report, scope="image", metric="euclidean")
    assert points[20].output_error < 1e-5 < points[1].output_error and points[20].accuracy is None
    assert report.layers[0].N == 40 and report.layers[0].K == 9


def test_more_clusters_come_nearer_to_the_original(study: Study) -> None:
    report = study(
        classifier(), images(16), batch=8, methods=["kmeans"], clusters=[1, 16, 64], lengths=[0], scopes=["image"]
    )
    assert [layer.name for layer in report.layers] == ["conv1", "conv2"]
    assert report.accuracy == "agreement" and report.original == 1
    for layer in (0, 1):
        points = by_effort(report, layer, metric="euclidean")
        assert points[1].r_c == pytest.approx(1 / 64) and points[64].r_c == 1
        errors = [points[effort].output_error for effort in (1, 16, 64)]
        assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-5
        assert points[64].accuracy == 1 and (points[1].accuracy or 0) < 1


def test_accuracy_is_that_of_the_network_with_the_clustered_layer(study: Study) -> None:
    model, x = classifier(), images(6)
    report = study(model, x, batch=6, layers="conv1", methods=["lsh"], hashes=[3], lengths=[7])
    (layer,) = layers_to_study(model, "conv1", {"x": x.shape})[1]
    blocking, sets = cut_vectors(layer, x, Form(7, "batch", "angular"))
    c1 = clustered_result(layer, blocking, sets, LocalitySensitiveHashing(), 3)[0]
    r = np.maximum(c1, 0)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    conv2 = conv_model(weights=(4, 4, 3, 3), bias=False, shape=r.shape, pads=[1, 1, 1, 1])
    conv2.graph.initializer[0].CopyFrom(tensor("w", weights["w2"]))
    y = (run(conv2, {"x": r})[0] + r).reshape(6, -1) @ weights["w3"]
    expected = (y.argmax(axis=1) == run(model, {"x": x})[0].argmax(axis=1)).mean()
    point = by_effort(report, scope="batch", metric="angular")[3]
    assert point.accuracy == pytest.approx(expected)
    dense = conv_model(weights=(4, 3, 3, 3), shape=x.shape, pads=[1, 1, 1, 1])
    for name in ("w", "b"):
        next(t for t in dense.graph.initializer if t.name == name).CopyFrom(tensor(name, weights[f"{name}1"]))
    assert point.output_error == pytest.approx(relative_error(c1, run(dense, {"x": x})[0]), rel=1e-4)


def test_labels_make_it_top_1_accuracy(study: Study) -> None:
    model, x = classifier(), images(8)
    classes = run(model, {"x": x})[0].argmax(axis=1)
    labels = np.where(np.arange(8) < 6, classes, (classes + 1) % 10)
    options: dict[str, Any] = {"methods": ["kmeans"], "clusters": [64], "scopes": ["image"], "batch": 4}
    report = study(model, x, labels, **options)
    assert report.accuracy == "top1" and report.original == 0.75
    assert {p.accuracy for p in report.layers[0].points} == {0.75}


def test_a_batch_shares_more_than_its_images(study: Study) -> None:
    report = study(
        classifier(), images(8, colours=2), batch=8, layers="conv1", methods=["lsh"], hashes=[64], lengths=[3]
    )
    image, batch = (by_effort(report, scope=scope, metric="euclidean")[64] for scope in ("image", "batch"))
    # Two colours and the zeros of the padding: at most three different pixels per set, at most 8 sets of them.
    assert batch.r_c == pytest.approx(image.r_c / 8, rel=0.2)
    assert max(image.output_error, batch.output_error) < 1e-5


def test_some_of_the_samples(study: Study) -> None:
    options: dict[str, Any] = {
        "methods": ["lsh"],
        "hashes": [4],
        "scopes": ["image"],
        "lengths": [0],
        "layers": "conv1",
    }
    few = study(classifier(), images(12), batch=4, samples=4, **options)
    assert few.data == "1 of 3 runs of x [4, 3, 8, 8] from data.npz"
    alone = study(classifier(), images(12)[:4], batch=4, **options)
    assert few.layers == alone.layers
    assert study(classifier(), images(12), batch=4, **options).layers != few.layers


def test_lengths_of_whole_rows_are_one(study: Study) -> None:
    report = study(
        classifier(), images(2), batch=2, layers="conv1", methods=["lsh"], hashes=[4], lengths=[0, 27, 99, 5]
    )
    assert {(p.L, p.whole) for p in report.layers[0].points} == {(27, True), (5, False)}
    assert len(report.layers[0].points) == 2 * 2 * 2


def test_what_is_left_out_is_said(study: Study) -> None:
    report = study(
        classifier(),
        images(2),
        layers="conv1",
        methods=["kmeans"],
        clusters=[2, 0.9],
        max_clusters=10,
        metrics=["angular"],
    )
    assert {p.effort for p in report.layers[0].points} == {2}
    assert report.layers[0].left_out == [
        f"kmeans, scope {scope}, clusters 0.9: K-means with 58 clusters takes too long; at most 10 are looked for"
        for scope in ("image", "batch")
    ]


def test_methods_of_ones_own(tmp_path: Path) -> None:
    model = classifier()
    np.save(tmp_path / "x.npy", images(4))
    source = ArraySource([tmp_path / "x.npy"], model_inputs(model), {"x": (4, 3, 8, 8)}, tmp_path)
    options = SimilarityOptions(layers="conv2", lengths=(0,), metrics=("euclidean",), batch=4)
    report = study_similarity(model, Samples(source), options, [Sweep(OneCluster(), [0])], folder=tmp_path)
    assert {(p.method, p.scope, p.r_c) for p in report.layers[0].points} == {
        ("one", "image", 1 / 64),
        ("one", "batch", 1 / 256),
    }


def test_progress_ends_where_it_should(tmp_path: Path) -> None:
    onnx.save(classifier(), tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", images(4))
    calls: list[tuple[str, int, int]] = []
    options = SimilarityOptions(layers="conv1", methods=("lsh",), batch=2)
    study_file(tmp_path / "net.onnx", tmp_path / "x.npy", options, progress=lambda *call: calls.append(call))
    assert [done for _, done, total in calls if total] == list(range(16)) and {total for *_, total in calls} == {0, 16}


class TestBadInput:
    def test_no_such_layer(self, study: Study) -> None:
        with pytest.raises(ConfigError, match=r"--layer: 'conv7' is found in no name .* they are conv1, conv2"):
            study(classifier(), images(1), layers="conv7")

    def test_a_model_without_convolutions(self, study: Study) -> None:
        model = model_of([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1, 3])], [value("y", None)])
        with pytest.raises(ConfigError, match="the model has no convolution"):
            study(model, random_array(1, 3))

    def test_a_layer_that_reuse_cannot_compute(self, study: Study) -> None:
        model = conv_model(weights=(4, 1, 3, 3), bias=False, group=4)
        with pytest.raises(ConfigError, match="'conv' cannot be studied: it is depthwise"):
            study(model, random_array(1, 4, 8, 8))

    def test_a_layer_in_a_body(self, study: Study) -> None:
        def body(name: str) -> onnx.GraphProto:
            node = helper.make_node("Conv", ["x", "w"], [name], name=f"conv_{name}")
            return helper.make_graph([node], name, [], [value(name, None)])

        branch = helper.make_node("If", ["cond"], ["y"], then_branch=body("a"), else_branch=body("b"))
        constants = [tensor("w", random_array(4, 3, 3, 3)), tensor("cond", np.array(True))]
        model = model_of([branch], [value("x", [1, 3, 8, 8])], [value("y", None)], constants)
        with pytest.raises(ConfigError, match=r"'conv_[ab]' cannot be studied: it stands in the body"):
            study(model, images(1))

    def test_labels_without_classes(self, study: Study) -> None:
        with pytest.raises(DataError, match=r"no single output of the form \[N, classes\]"):
            study(conv_model(shape=(1, 3, 8, 8), weights=(4, 3, 3, 3)), images(1), np.array([1]))

    def test_values_that_are_not_finite(self, study: Study) -> None:
        x = images(2)
        x[0, 0, 0, 0] = np.nan
        with pytest.raises(DataError, match="layer 'conv1' has values that are not finite"):
            study(classifier(), x)

    def test_a_batch_that_the_model_fixes(self, study: Study) -> None:
        with pytest.raises(ConfigError, match="--batch: the model fixes its batch, to 2"):
            study(classifier(batch=2), images(4), batch=4)
        report = study(classifier(batch=2), images(4), batch=2, layers="conv1", methods=["lsh"], hashes=[4])
        assert report.layers[0].N == 2 * 64


def test_several_outputs_of_classes_are_none(study: Study) -> None:
    model = classifier()
    model.graph.node.append(helper.make_node("Neg", ["y"], ["z"]))
    model.graph.output.append(value("z", ["N", 10], TensorProto.FLOAT))
    report = study(model, images(2), layers="conv1", methods=["lsh"], hashes=[4])
    assert report.accuracy is None and all(p.accuracy is None for p in report.layers[0].points)


def test_cifarnet_as_in_the_papers(study: Study, read_images: ReadImages) -> None:
    photos, labels = read_images("cifar10_test", 8)
    report = study(
        builders.trained("cifarnet"),
        preprocessing.CIFAR10(photos),
        labels,
        batch=8,
        layers="conv2",
        methods=["kmeans"],
        clusters=[0.02, 0.1],
        lengths=[25],
        metrics=["euclidean"],
    )
    assert report.accuracy == "top1" and report.original is not None and report.original >= 0.75
    assert (report.layers[0].N, report.layers[0].K, report.layers[0].M) == (2048, 1600, 64)
    image, batch = (by_effort(report, scope=scope) for scope in ("image", "batch"))
    for effort in (0.02, 0.1):
        # K-means finds as many clusters as it looks for; in a larger scope they are better ones.
        assert [scope[effort].r_c for scope in (image, batch)] == pytest.approx([effort, effort], rel=0.1)
        assert batch[effort].output_error < image[effort].output_error
    assert batch[0.1].accuracy is not None and batch[0.1].accuracy >= report.original - 0.125
