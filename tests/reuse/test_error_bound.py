"""The bound holds for every convolution, layout, family and table; it is exact where Eq. 2 is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from numpy.typing import NDArray

from reuse_compiler.reference.operators import Clusters, cluster_vectors, hash_vectors
from reuse_compiler.reference.vectors import neuron_vectors, unfold
from reuse_compiler.reuse.activation import NO_ACTIVATION
from reuse_compiler.reuse.error_bound import int8_error_bound, layer_error_bound, squared_residuals, weight_norms
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import Blocking, ConvSpec, Layout
from tests.comparison import relative_error
from tests.custom_ops.cases import Case, cases
from tests.running import run_reference

ROUNDING = 1e-5
"""What float32 sums may add, relative to the result."""
UNIT = float(np.finfo(np.float32).eps)
"""The same, relative to what is added, which may be far larger than the result."""


def clusters_of(case: Case, x: NDArray[np.float32]) -> Clusters:
    codes = hash_vectors(x, case.blocking, case.family, case.parameters())
    return cluster_vectors(
        x, codes, case.blocking, case.scope, case.capacity, case.metric, FAMILIES[case.family].lossless  # type: ignore[arg-type]
    )  # fmt: skip


def residuals_of(x: NDArray[np.float32], clusters: Clusters, blocking: Blocking) -> NDArray[np.float64]:
    vectors = neuron_vectors(x, blocking)
    result = np.zeros((blocking.spec.group, blocking.vectors))
    for block in range(blocking.num_blocks):
        residuals = squared_residuals(vectors[block], clusters.centroids[block], clusters.ids[block])
        result[block // blocking.blocks_per_group] += residuals
    return result


@settings(max_examples=120, deadline=None)
@given(case=cases())
def test_no_layer_errs_more(case: Case) -> None:
    case = dataclasses.replace(case, activation=NO_ACTIVATION)
    x, w, bias = case.data()
    dense = run_reference(case.model("dense"), x)
    norm = float(np.linalg.norm(dense.astype(np.float64)))
    assume(norm > 0)
    bound = layer_error_bound(
        weight_norms(w, case.spec.group), residuals_of(x, clusters_of(case, x), case.blocking), case.blocking, norm
    )
    error = relative_error(run_reference(case.model("fused"), x), dense)
    added = np.linalg.norm(x) * np.linalg.norm(w) + np.linalg.norm(bias)
    rounding = ROUNDING + UNIT * float(added) / norm
    assert error <= bound * (1 + ROUNDING) + rounding, f"{error} > {bound}: {case}"
    if FAMILIES[case.family].lossless:
        assert bound == 0.0


@settings(max_examples=60, deadline=None)
@given(case=cases(families=("learned", "exact"), table="int8"))
def test_rounding_to_int8_tables_is_bounded(case: Case) -> None:
    case = dataclasses.replace(case, activation=NO_ACTIVATION)
    x, w, _ = case.data()
    clusters = clusters_of(case, x)
    largest = np.linalg.norm(clusters.centroids, axis=2).max(axis=1)
    bound = int8_error_bound(w, largest, case.blocking)
    exact = run_reference(dataclasses.replace(case, table="float").model("fused"), x).astype(np.float64)
    error = float(np.linalg.norm(run_reference(case.model("fused"), x) - exact))
    assert error <= bound * (1 + ROUNDING) + ROUNDING * float(np.linalg.norm(exact)), f"{error} > {bound}: {case}"


def test_it_is_reached_by_a_residual_along_the_weights_largest_direction() -> None:
    blocking = Blocking(ConvSpec(1, 4, 1, 3, 2, (1, 1)), "channel", 4)
    w = np.diag([3.0, 1.0, 0.0, 0.0])[:2].astype(np.float32).reshape(2, 4, 1, 1)  # spectral norm 3
    vectors = np.array([[1, 0, 0, 0], [-1, 0, 0, 0], [5, 0, 0, 0]], np.float32)
    centroids = np.array([[0, 0, 0, 0], [5, 0, 0, 0]], np.float32)
    residuals = squared_residuals(vectors, centroids, np.array([0, 0, 1]))
    assert residuals.tolist() == [1, 1, 0]
    dense_norm = float(np.linalg.norm(vectors @ w.reshape(2, 4).T))
    measured = float(np.linalg.norm((vectors - centroids[[0, 0, 1]]) @ w.reshape(2, 4).T)) / dense_norm
    assert layer_error_bound(weight_norms(w), residuals[None], blocking, dense_norm) == pytest.approx(measured)


@settings(max_examples=60, deadline=None)
@given(case=cases(families=("learned",)))
def test_pixels_count_as_often_as_the_unfolded_input_has_them(case: Case) -> None:
    g = case.spec
    blocking = Blocking(g, "channel", g.group_in_channels)
    x = case.data()[0]
    squares = [float((unfold(x, g, group).astype(np.float64) ** 2).sum()) for group in range(g.group)]
    zero = np.zeros((1, g.group_in_channels), np.float32)
    residuals = np.stack(
        [squared_residuals(v, zero, np.zeros(blocking.vectors, int)) for v in neuron_vectors(x, blocking)]
    )
    for group, expected in enumerate(squares):
        alone = np.eye(g.group)[group]
        assert layer_error_bound(alone, residuals, blocking, 1.0) == pytest.approx(np.sqrt(expected), rel=1e-6)


@pytest.mark.parametrize("shape", [(6, 2, 3, 3), (40, 2, 1, 1), (1, 1, 1, 1)])
def test_norms_are_spectral_and_by_group(shape: tuple[int, ...]) -> None:
    w = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    groups = 2 if shape[0] % 2 == 0 else 1
    expected = [np.linalg.norm(part.reshape(len(part), -1), 2) for part in np.split(w.astype(np.float64), groups)]
    np.testing.assert_allclose(weight_norms(w, groups), expected)


@pytest.mark.parametrize("layout", ["patch", "channel"])
def test_a_result_of_zero(layout: Layout) -> None:
    blocking = Blocking(ConvSpec(1, 1, 1, 2, 1, (1, 1)), layout, 1)
    assert layer_error_bound(np.ones(1), np.zeros((1, 2)), blocking, 0.0) == 0.0
    assert layer_error_bound(np.ones(1), np.ones((1, 2)), blocking, 0.0) == float("inf")
    assert layer_error_bound(np.zeros(1), np.ones((1, 2)), blocking, 0.0) == 0.0
