"""Fitted trees: what they keep of the layer's output, with how many leaves, and that nothing but the data decides."""

import os
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from reuse_compiler.reuse.families import FAMILIES, HashParameters
from reuse_compiler.reuse.families.trees import LONGEST_ROTATED, fit_trees, num_leaves, rotation
from tests.passes.models import random_array
from tests.reuse.grids import spans

Floats = NDArray[np.float32]


def codes_of(vectors: Floats, parameters: HashParameters) -> NDArray[np.int64]:
    """Codes [B, n]."""
    family = FAMILIES["learned"]
    return np.stack([family.codes(own, parameters.block(b), own.shape[1]) for b, own in enumerate(vectors)])


def output_error(vectors: Floats, weights: Floats, parameters: HashParameters) -> float:
    """Squared error of vectors times weights when each vector becomes the mean of its leaf."""
    total = 0.0
    for own, codes, weight in zip(vectors, codes_of(vectors, parameters), weights, strict=True):
        for code in np.unique(codes):
            members = own[codes == code]
            total += float(np.square((members - members.mean(axis=0)) @ weight).sum())
    return total


def variance(vectors: Floats, weights: Floats) -> float:
    outputs = np.matmul(vectors, weights)
    return float(np.square(outputs - outputs.mean(axis=1, keepdims=True)).sum())


@pytest.mark.parametrize("length", [1, 2, LONGEST_ROTATED, LONGEST_ROTATED + 1, 20])
def test_more_leaves_make_less_error(length: int) -> None:
    vectors = np.maximum(random_array(2, 600, length), 0)
    weights = random_array(2, length, 5)
    depths = [3, 5, 7, 9]
    errors = [output_error(vectors, weights, trees) for trees in fit_trees(vectors, weights, depths)]
    assert variance(vectors, weights) > errors[0]
    assert all(more <= less for less, more in pairwise(errors))
    # Beyond 8 elements the metric is taken to be diagonal, and random vectors have no structure to find.
    assert errors[-1] < (0.5 if length <= LONGEST_ROTATED else 0.8) * variance(vectors, weights)


@pytest.mark.parametrize("length", [1, 4, 12])
def test_leaves_are_as_many_as_promised_at_most(length: int) -> None:
    vectors, weights = random_array(3, 500, length), random_array(3, length, 4)
    depths = [1, 2, 4, 8]
    for depth, trees in zip(depths, fit_trees(vectors, weights, depths), strict=True):
        used = [len(np.unique(codes)) for codes in codes_of(vectors, trees)]
        assert 1 < max(used) <= num_leaves(depth)


def test_few_distinct_vectors_get_a_leaf_each() -> None:
    palette = random_array(10, 6)
    vectors = palette[np.random.default_rng(0).integers(0, 10, (1, 300))]
    weights = random_array(1, 6, 9)
    (trees,) = fit_trees(vectors, weights, [7])
    assert len(np.unique(codes_of(vectors, trees))) == 10
    assert output_error(vectors, weights, trees) < 1e-6 * variance(vectors, weights)


@pytest.mark.parametrize("length", [1, 4, 12])
def test_thresholds_lie_on_a_grid(length: int) -> None:
    """So that trees are walked down by bytes; values far from all others do not make its steps wide."""
    vectors = np.exp(2 * random_array(2, 2000, length)) * np.float32(1e-3)
    weights = random_array(2, length, 5)
    errors = []
    for far in (0.0, 1e6):
        vectors[:, 0] += np.float32(far)
        trees = fit_trees(vectors, weights, [8])[0]
        assert trees.coordinates is not None and trees.thresholds is not None
        for coordinates, thresholds in zip(trees.coordinates, trees.thresholds, strict=True):
            assert max(spans(coordinates, thresholds)) <= 254
        errors.append(output_error(vectors[:, 1:], weights, trees))
    assert length <= LONGEST_ROTATED or errors[1] < 1.5 * errors[0]


def test_a_grid_joins_no_values_where_there_are_few() -> None:
    vectors = np.tile(np.array([0.3, 0.3001, 1, 100], np.float32), 50)[None, :, None]
    (trees,) = fit_trees(vectors, np.ones((1, 1, 1), np.float32), [4])
    assert len(np.unique(codes_of(vectors, trees))) == 4
    assert trees.coordinates is not None and trees.thresholds is not None
    assert max(spans(trees.coordinates[0], trees.thresholds[0])) > 254


@pytest.mark.parametrize("length", [4, 12])
def test_what_the_weights_ignore_is_not_split(length: int) -> None:
    """The widest coordinate has weights of zero."""
    vectors, weights = random_array(1, 500, length), random_array(1, length, 3)
    vectors[:, :, 0] *= 100
    weights[:, 0] = 0
    (trees,) = fit_trees(vectors, weights, [6])
    vectors[:, :, 0] = 0
    assert output_error(vectors, weights, trees) < 0.7 * variance(vectors, weights)


class TestRotation:
    def test_no_difference_in_the_output_is_lost(self) -> None:
        """What the output tells apart can be computed from the rotated vectors."""
        vectors, weights = random_array(300, 5), random_array(5, 7)
        turned = vectors @ rotation(vectors, weights)
        outputs = vectors @ weights
        recovered = turned @ np.linalg.lstsq(turned, outputs, rcond=None)[0]
        np.testing.assert_allclose(recovered, outputs, atol=1e-3)

    def test_distances_are_those_of_the_output(self) -> None:
        vectors, weights = random_array(40, 5), random_array(5, 7)
        turned, outputs = vectors @ rotation(vectors, weights), vectors @ weights
        np.testing.assert_allclose(
            np.linalg.norm(turned[0] - turned, axis=1),
            np.linalg.norm(outputs[0] - outputs, axis=1),
            rtol=1e-3,
            atol=1e-3,
        )

    def test_axes_are_independent(self) -> None:
        vectors, weights = random_array(400, 6) @ random_array(6, 6), random_array(6, 3)
        covariance = np.cov((vectors @ rotation(vectors, weights)).astype(np.float64).T)
        off_diagonal = covariance - np.diag(np.diag(covariance))
        assert np.abs(off_diagonal).max() < 1e-3 * np.diag(covariance).max()

    @pytest.mark.parametrize("what", ["vectors", "weights"])
    def test_zeros_are_no_error(self, what: str) -> None:
        vectors, weights = random_array(30, 4), random_array(4, 3)
        (vectors if what == "vectors" else weights)[:] = 0
        assert np.isfinite(rotation(vectors, weights)).all()
        (trees,) = fit_trees(vectors[None], weights[None], [5])
        assert trees.thresholds is not None and not np.isnan(trees.thresholds).any()
        assert np.isfinite(output_error(vectors[None], weights[None], trees))


def test_depths_do_not_change_each_other() -> None:
    vectors, weights = random_array(2, 300, 4), random_array(2, 4, 5)
    depths, full = [4, 4, 6, 8, 8], [False, True, True, False, True]
    together = fit_trees(vectors, weights, depths, full)
    assert str(together[0].thresholds) != str(together[1].thresholds)
    for depth, all_leaves, trees in zip(depths, full, together, strict=True):
        (alone,) = fit_trees(vectors, weights, [depth], [all_leaves])
        for (_, first), (_, second) in zip(trees.items(), alone.items(), strict=True):
            if first is not None and second is not None:
                np.testing.assert_array_equal(first, second)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, weights = random_array(5, 300, 4), random_array(5, 4, 5)
    found = []
    for count in (1, 4):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        (trees,) = fit_trees(vectors, weights, [6])
        found.append([array.tobytes() for _, array in trees.items() if array is not None])
    assert found[0] == found[1]
