"""The reference operators against ONNX's own reference convolution, and small cases worked out by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from reuse_compiler.reference.operators import centroid_gemm, cluster_vectors, gather_rows
from reuse_compiler.reference.vectors import block_weights, neuron_vectors
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from tests.comparison import assert_close
from tests.custom_ops.cases import Case, cases
from tests.running import run_reference


@settings(max_examples=60, deadline=None)
@given(case=cases(families=("exact",)))
def test_lossless_reference_is_the_convolution(case: Case) -> None:
    x = case.data()[0]
    dense = run_reference(case.model("dense"), x)
    for lowering in ("fused", "staged"):
        assert_close(run_reference(case.model(lowering), x), dense, what=f"{lowering}, {case}")


def test_vectors_and_weights_of_a_patch_block_multiply_to_the_convolution() -> None:
    spec = ConvSpec(1, 2, 3, 3, 1, (2, 2))
    x = np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3)
    w = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    blocking = Blocking(spec, "patch", 8)
    vectors = neuron_vectors(x, blocking)
    # Columns in the order (kh, kw, c): the first window is pixels (0,0), (0,1), (1,0), (1,1) with both channels.
    np.testing.assert_array_equal(vectors[0, 0], [0, 9, 1, 10, 3, 12, 4, 13])
    window = x[0, :, :2, :2]
    assert (vectors[0, 0] @ block_weights(w, blocking)[0])[0] == (window * w[0]).sum()


def test_clusters_by_hand() -> None:
    x = np.array([1, 3, -2, 5, -4, np.nan], np.float32).reshape(1, 1, 1, 6)
    blocking = Blocking(ConvSpec(1, 1, 1, 6, 1, (1, 1)), "channel", 1)
    codes = np.array([[7, 7, 9, 8, 9, 7]])
    clusters = cluster_vectors(x, codes, blocking)
    np.testing.assert_array_equal(clusters.ids, [[0, 0, 1, 2, 1, 3]])  # the NaN stands alone
    np.testing.assert_array_equal(clusters.centroids[0, :3, 0], [2, -3, 5])
    assert clusters.counts.tolist() == [4] and clusters.guarded == 1
    guarded = cluster_vectors(x, codes, blocking, capacity=0.3)  # two shared clusters at most
    np.testing.assert_array_equal(guarded.ids, clusters.ids)
    assert guarded.guarded == 2  # 5 opened a cluster of its own


def test_scope_image_never_shares_across_images() -> None:
    x = np.array([1, 1, 1, 1], np.float32).reshape(2, 1, 1, 2)
    blocking = Blocking(ConvSpec(2, 1, 1, 2, 1, (1, 1)), "channel", 1)
    codes = np.zeros((1, 4), np.int64)
    np.testing.assert_array_equal(cluster_vectors(x, codes, blocking, "batch").ids, [[0, 0, 0, 0]])
    np.testing.assert_array_equal(cluster_vectors(x, codes, blocking, "image").ids, [[0, 0, 1, 1]])


def test_rows_beyond_the_count_are_zero_and_padding_adds_nothing() -> None:
    spec = ConvSpec(1, 1, 1, 2, 1, (1, 3), pads=(0, 1, 0, 1))
    blocking = Blocking(spec, "channel", 1)
    centroids = np.array([[[2.0], [5.0], [9.0]]], np.float32)
    table = centroid_gemm(centroids, np.array([2]), np.array([[[[1, 10, 100]]]], np.float32), blocking)
    np.testing.assert_array_equal(table[0], [[2, 20, 200], [5, 50, 500], [0, 0, 0]])
    y = gather_rows(table, np.array([[0, 1]]), blocking, np.array([0.5], np.float32))
    np.testing.assert_array_equal(y[0, 0, 0], [20 + 500 + 0.5, 2 + 50 + 0.5])
