"""The input as reuse sees it, against the reference operators."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from reuse_compiler.calibration.clusters import Clusterer
from reuse_compiler.fitting.hashes import HashFitter, VectorSampler
from reuse_compiler.fitting.vectors import lifted, reused_rows
from reuse_compiler.reference.operators import cluster_vectors, hash_vectors
from reuse_compiler.reference.vectors import neuron_vectors, unfold
from reuse_compiler.reuse.activation import NO_ACTIVATION
from reuse_compiler.reuse.config import make_settings
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.plan import LayerPlan
from tests.calibration.networks import feeds_of, network_1d, settings_for, work_of
from tests.comparison import assert_close
from tests.custom_ops.cases import Case, cases
from tests.passes.models import random_array


def reused_input(case: Case, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Rows of every group, by the reference: centroids in place of vectors, in the input (channel) or its rows."""
    g, blocking = case.spec, case.blocking
    codes = hash_vectors(x, blocking, case.family, case.parameters())
    clusters = cluster_vectors(
        x, codes, blocking, case.scope, case.capacity, case.metric, FAMILIES[case.family].lossless  # type: ignore[arg-type]
    )  # fmt: skip
    vectors = np.stack([c[ids] for c, ids in zip(clusters.centroids, clusters.ids, strict=True)])
    grouped = vectors.reshape(g.group, blocking.blocks_per_group, blocking.vectors, -1)
    joined = grouped.transpose(0, 2, 1, 3).reshape(g.group, blocking.vectors, -1)[:, :, : blocking.group_width]
    if case.layout == "patch":
        return list(joined)
    image = joined.transpose(0, 2, 1).reshape(g.in_channels, g.batch, g.in_height, g.in_width).transpose(1, 0, 2, 3)
    return [unfold(image, g, group) for group in range(g.group)]


@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_rows_are_those_of_the_reference(case: Case) -> None:
    case = dataclasses.replace(case, activation=NO_ACTIVATION)
    own = make_settings(
        family=case.family, layout=case.layout, L=case.sub_vector_length, H=case.num_hashes, scope=case.scope,
        capacity=case.capacity, metric=case.metric,
    )  # fmt: skip
    x, places = case.data()[0], np.arange(case.spec.rows)[::2]
    clusterer = Clusterer(LayerPlan(case.spec, own, case.parameters()))
    rows = reused_rows(*clusterer.ids_and_centroids(x), own.blocking(case.spec), places)
    for actual, expected in zip(rows, reused_input(case, x), strict=True):
        assert_close(actual, expected[places])


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("family", ["learned", "exact"])
def test_layers_of_one_dimension(index: int, family: str) -> None:
    """Every vector a cluster of its own leaves the input as it is; otherwise rows are means of rows."""
    model = network_1d()
    work = work_of(model)
    layer = work.layers[index]
    x = random_array(*layer.spec.input_shape)
    assert x.ndim == 3
    own = settings_for(layer, family, 1 if family == "exact" else 6)
    sampler = VectorSampler(layer.name, layer.spec, own.layout, 10**6, 1, 0)
    sampler.add(x)
    parameters = HashFitter(sampler.sample(), layer.weights).fit(own)
    clusterer = Clusterer(LayerPlan(layer.spec, own, parameters))
    g, blocking = layer.spec, own.blocking(layer.spec)
    ids, centroids = clusterer.ids_and_centroids(x)
    vectors = neuron_vectors(lifted(x), blocking)
    for block in range(blocking.num_blocks):
        for cluster in np.unique(ids[block]):
            assert_close(centroids[block, cluster], vectors[block, ids[block] == cluster].mean(axis=0))
    rows = reused_rows(ids, centroids, blocking, np.arange(g.rows))
    for group in range(g.group):
        same = np.array_equal(rows[group], unfold(lifted(x), g, group))
        assert same == (family == "exact")


def test_int8_tables_have_the_same_clusters() -> None:
    """The staged form, which tells them, has no such tables."""
    work = work_of(network_1d())
    (layer, _), x = work.layers, feeds_of(network_1d(), 1)[0]["x"]
    own = settings_for(layer, "sign")
    sampler = VectorSampler(layer.name, layer.spec, own.layout, 10**6, 1, 0)
    sampler.add(x)
    parameters = HashFitter(sampler.sample(), layer.weights).fit(own)
    plan = LayerPlan(layer.spec, own, parameters)
    int8 = dataclasses.replace(plan, settings=own.model_copy(update={"table": "int8"}))
    found = [Clusterer(each).ids_and_centroids(x)[0] for each in (plan, int8)]
    np.testing.assert_array_equal(found[0], found[1])
