"""Centroids fitted to a layer's result: those that made it are found, and none are taken that are worse."""

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from reuse_compiler.fitting.reconstruct import unfolded_weight
from reuse_compiler.fitting.shared_centroids import MAX_ROWS, MIN_ROWS, CentroidFit, centroid_rows
from reuse_compiler.fitting.vectors import reused_rows
from reuse_compiler.reuse.geometry import Blocking, ConvSpec
from tests.comparison import assert_close, relative_error
from tests.custom_ops.cases import Case, cases
from tests.passes.models import random_array

Floats = NDArray[np.float32]
CODES = 8
BLOCKING = Blocking(ConvSpec(2, 12, 9, 10, 10, (3, 3), pads=(1, 1, 1, 1), group=2), "channel", 4)
"""Of two groups, each of a block of 4 channels and one of 2."""


def parts(blocking: Blocking, seed: int = 0) -> tuple[NDArray[np.int32], Floats, Floats, Floats]:
    """Returns ids, centroids (those of short blocks end with zeros), weights and bias."""
    spec = blocking.spec
    ids = np.random.default_rng(seed).integers(0, CODES, (blocking.num_blocks, blocking.vectors)).astype(np.int32)
    centroids = random_array(blocking.num_blocks, CODES, blocking.sub_vector_length, seed=seed)
    for block, own in enumerate(centroids):
        own[:, blocking.block_length(block) :] = 0
    weight = random_array(spec.out_channels, spec.group_in_channels, *spec.kernel, seed=seed + 1)
    return ids, centroids, weight, random_array(spec.out_channels, seed=seed + 2)


def results(blocking: Blocking, ids: NDArray[np.int32], centroids: Floats, weight: Floats, bias: Floats) -> Floats:
    """What the layer computes at all output pixels, `[n, M]`."""
    spec = blocking.spec
    rows = reused_rows(ids, centroids, blocking, np.arange(spec.rows))
    columns = [own @ unfolded_weight(weight, spec, group) for group, own in enumerate(rows)]
    return np.concatenate(columns, axis=1) + bias


def fit(
    blocking: Blocking, ids: NDArray[np.int32], target: Floats, start: Floats, weight: Floats, bias: Floats
) -> tuple[Floats, float]:
    """Fits to three of four output pixels, the others judge."""
    places = np.arange(blocking.spec.rows)
    found = CentroidFit(blocking, start, 1)
    found.add(ids, places, target, places % 4 == 0)
    return found.solve(weight, bias)


@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_the_error_is_that_of_the_layer_whatever_its_geometry(case: Case) -> None:
    """It begins with other centroids: what it says of the error of those that it finds is true."""
    blocking = case.blocking
    ids, right, weight, bias = parts(blocking)
    target = results(blocking, ids, right, weight, bias)
    start = right + np.where(right != 0, np.float32(0.3), 0) * random_array(*right.shape, seed=5)
    found, share = fit(blocking, ids, target, start, weight, bias)
    judged = np.arange(blocking.spec.rows) % 4 == 0
    before, after = (
        relative_error(results(blocking, ids, own, weight, bias)[judged], target[judged]) for own in (start, found)
    )
    assert share <= 1.0
    assert after == pytest.approx(share * before, rel=1e-3, abs=1e-5)
    for block, own in enumerate(found):
        assert not own[:, blocking.block_length(block) :].any()


def test_the_centroids_that_made_the_results_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many steps as it takes, and hardly any pull."""
    monkeypatch.setattr("reuse_compiler.fitting.shared_centroids.MOST_STEPS", 60)
    monkeypatch.setattr("reuse_compiler.fitting.shared_centroids.RIDGE", 1e-6)
    ids, right, weight, bias = parts(BLOCKING)
    target = results(BLOCKING, ids, right, weight, bias)
    found, share = fit(BLOCKING, ids, target, np.zeros_like(right), weight, bias)
    assert share < 1e-3
    assert_close(found, right, rtol=1e-2)


def test_a_few_steps_find_most_of_it() -> None:
    ids, right, weight, bias = parts(BLOCKING)
    target = results(BLOCKING, ids, right, weight, bias)
    assert fit(BLOCKING, ids, target, np.zeros_like(right), weight, bias)[1] < 0.6


def test_centroids_stay_where_others_are_worse_on_the_rows_that_judge() -> None:
    """Noise can be fitted to, but nothing is learned from it of other rows."""
    ids, right, weight, bias = parts(BLOCKING)
    target = results(BLOCKING, ids, right, weight, bias) + 30 * random_array(BLOCKING.spec.rows, 10, seed=9)
    found, share = fit(BLOCKING, ids, target, right, weight, bias)
    assert share == 1.0
    np.testing.assert_array_equal(found, right)


def test_it_repeats() -> None:
    ids, right, weight, bias = parts(BLOCKING)
    target = results(BLOCKING, ids, right, weight, bias)
    first, second = (fit(BLOCKING, ids, target, 0.5 * right, weight, bias)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_vectors_without_a_code_and_broken_results_do_not_count() -> None:
    ids, right, weight, bias = parts(BLOCKING)
    target = results(BLOCKING, ids, right, weight, bias)
    places, held_back = np.arange(BLOCKING.spec.rows), np.arange(BLOCKING.spec.rows) % 4 == 0
    found, share = fit(BLOCKING, ids, target, 0.5 * right, weight, bias)
    other = CentroidFit(BLOCKING, 0.5 * right, 1)
    other.add(ids, places, target, held_back)
    other.add(np.full_like(ids, CODES), places, target, held_back)
    other.add(ids, places, np.full_like(target, np.nan), held_back)
    again, other_share = other.solve(weight, bias)
    np.testing.assert_array_equal(again, found)
    assert other_share == share


@pytest.mark.parametrize("held_back", [True, False])
def test_without_rows_centroids_stay(held_back: bool) -> None:
    ids, right, weight, bias = parts(BLOCKING)
    places = np.arange(BLOCKING.spec.rows)
    target = results(BLOCKING, ids, right, weight, bias)
    found = CentroidFit(BLOCKING, 2 * right, 1)
    found.add(ids, places, target, np.full(len(places), held_back))
    centroids, share = found.solve(weight, bias)
    np.testing.assert_array_equal(centroids, 2 * right)
    assert share == 1.0


def test_weights_of_zeros_leave_centroids_as_they_are() -> None:
    ids, right, weight, bias = parts(BLOCKING)
    centroids, share = fit(BLOCKING, ids, random_array(BLOCKING.spec.rows, 10), right, 0 * weight, bias)
    np.testing.assert_array_equal(centroids, right)
    assert share == 1.0


def test_one_row_in_some_is_taken() -> None:
    ids, right, weight, bias = parts(BLOCKING)
    places = np.arange(BLOCKING.spec.rows)
    target = results(BLOCKING, ids, right, weight, bias)
    few, all_of_few = CentroidFit(BLOCKING, 0.5 * right, 3), CentroidFit(BLOCKING, 0.5 * right, 1)
    few.add(ids, places, target, places >= 90)
    all_of_few.add(ids, places[::3], target[::3], places[::3] >= 90)
    np.testing.assert_array_equal(few.solve(weight, bias)[0], all_of_few.solve(weight, bias)[0])


def test_rows_follow_from_what_one_pass_costs() -> None:
    assert centroid_rows(2304, 256, 5e9) == int(5e9 / (2304 * 256))
    assert (centroid_rows(10**6, 10**6, 5e9), centroid_rows(1, 1, 5e9)) == (MIN_ROWS, MAX_ROWS)
