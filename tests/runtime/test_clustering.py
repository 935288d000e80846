"""Clusters of NumPy arrays by the library's kernels, against the reference."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest

from reuse_compiler.errors import ConfigError
from reuse_compiler.reference.operators import cluster_vectors, hash_vectors
from reuse_compiler.reuse.config import make_settings
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.geometry import ConvSpec, Layout
from reuse_compiler.runtime.clustering import ClusteringPlan, cluster_ids
from tests.comparison import relative_error
from tests.custom_ops.cases import Case

SPEC = ConvSpec(2, 10, 7, 6, 8, (3, 3), pads=(1, 1, 1, 1), group=2)


def plan_of(case: Case, pixel_major: bool = False, keep_codes: bool = False) -> ClusteringPlan:
    settings = make_settings(family=case.family, layout=case.layout, L=case.sub_vector_length, H=case.num_hashes)
    return ClusteringPlan(case.blocking, settings, case.parameters(), keep_codes, pixel_major, pixel_major)


@pytest.mark.parametrize("layout", ["channel", "patch"])
@pytest.mark.parametrize("family", FAMILIES)
def test_clusters_are_the_references(family: str, layout: Layout) -> None:
    case = Case(SPEC, layout, 4, family, 3, distinct=9)
    x, _, _ = case.data()
    found = plan_of(case, keep_codes=True).clusters(x, threads=2)
    codes = hash_vectors(x, case.blocking, family, case.parameters())
    wanted = cluster_vectors(x, codes, case.blocking, verify=FAMILIES[family].lossless)
    assert found.counts() == list(wanted.counts)
    np.testing.assert_array_equal(found.ids, wanted.ids)
    assert relative_error(found.all_centroids(), wanted.centroids) < 1e-6
    for block, ids in enumerate(found.ids):
        np.testing.assert_array_equal(found.codes(block)[ids], codes[block])
        np.testing.assert_array_equal(found.members(block), np.bincount(ids))


def test_static_clusters_are_the_references() -> None:
    case = Case(SPEC, "channel", 4, "sign", 3, scope="static", spoiled=3)
    x, centroids = case.data()[0], case.centroids()
    settings = make_settings(family="sign", layout="channel", L=4, H=3, scope="static")
    found = ClusteringPlan(case.blocking, settings, case.parameters(), centroids=centroids).clusters(x, threads=2)
    codes = hash_vectors(x, case.blocking, "sign", case.parameters())
    wanted = cluster_vectors(x, codes, case.blocking, "static", given=centroids)
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.all_centroids(), wanted.centroids)
    for block, ids in enumerate(found.ids):
        np.testing.assert_array_equal(found.members(block), np.bincount(ids, minlength=found.counts()[block]))
    with pytest.raises(ConfigError, match="centroids have -1 elements, must have"):
        ClusteringPlan(case.blocking, settings, case.parameters())


def test_one_plan_serves_inputs_of_any_size_in_either_order() -> None:
    large = Case(replace(SPEC, batch=3, in_height=9), "channel", 5, "sign", 6, distinct=9)
    x, weight, bias = large.data()
    of_another_size = replace(large, spec=SPEC)
    planes = plan_of(of_another_size).clusters(x)
    pixels = plan_of(of_another_size, pixel_major=True).clusters(x.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(planes.ids, pixels.ids)
    y = planes.forward(weight, bias)
    np.testing.assert_array_equal(y, pixels.forward(weight, bias, threads=2).transpose(0, 3, 1, 2))
    gradients = np.empty_like(weight), np.empty_like(x)
    planes.backward(weight, y, *gradients)
    # Of a convolution that is linear in its weights: <y, conv(x; w)> = <w, gradient of w>.
    assert np.vdot(y, planes.forward(weight)) == pytest.approx(np.vdot(weight, gradients[0]), rel=1e-4)


def test_arrays_outlive_the_clusters_and_their_plan() -> None:
    case = Case(SPEC, "channel", 5, "exact", 1)
    x, _, _ = case.data()
    ids, centroids = (lambda own: (own.ids, own.centroids(1)))(plan_of(case).clusters(x))
    gc.collect()
    pixels = x[:, 5:].transpose(0, 2, 3, 1).reshape(-1, 5)
    np.testing.assert_array_equal(centroids[ids[1]], pixels)


@pytest.mark.parametrize("family", FAMILIES)
def test_loose_vectors_share_a_cluster_where_they_share_a_code(family: str) -> None:
    case = Case(replace(SPEC, group=1), "channel", 10, family, 4, distinct=9)
    vectors = case.data()[0].transpose(0, 2, 3, 1).reshape(-1, 10)
    own = case.parameters().block(0)
    codes = FAMILIES[family].codes(vectors, own, 10)
    ids = cluster_ids(vectors, case.family, 4, own)  # type: ignore[arg-type]
    np.testing.assert_array_equal(ids[:, None] == ids, codes[:, None] == codes)


def test_what_does_not_fit_is_refused_in_words() -> None:
    case = Case(SPEC, "channel", 5, "sign", 6)
    settings = make_settings(family="sign", layout="channel", L=5, H=6)
    with pytest.raises(ConfigError, match=r"make no sense to the operator library.*projections"):
        ClusteringPlan(case.blocking, settings, HashParameters())
    x, weight, _ = case.data()
    with pytest.raises(ConfigError, match=r"\[2, 9, 7, 6\] is not \[N, channels, H, W\] of 10 channels"):
        plan_of(case).clusters(x[:, 1:])
    found = plan_of(case).clusters(x)
    with pytest.raises(ConfigError, match=r"has shape \[8, 4, 3, 3\], expected \[8, 5, 3, 3\]"):
        found.forward(weight[:, 1:])
    with pytest.raises(ConfigError, match="not contiguous"):
        found.forward(weight, y=np.empty((2, 8, 7, 12), np.float32)[:, :, :, ::2])
    with pytest.raises(ConfigError, match="keep_codes"):
        found.codes(0)
    with pytest.raises(IndexError):
        found.centroids(4)
    same = ConvSpec.of((1, 3, 8, 8), (4, 3, 3, 3), strides=(2, 2), auto_pad="SAME_UPPER")
    plan = plan_of(Case(same, "channel", 3, "exact", 1))
    with pytest.raises(ConfigError, match="other pads"):
        plan.clusters(np.zeros((1, 3, 9, 9), np.float32))
