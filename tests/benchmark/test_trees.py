"""Trees that tell all vectors of a palette apart."""

import numpy as np
import pytest

from reuse_compiler.benchmark.trees import fit_tree, median_split
from reuse_compiler.reuse.families import FAMILIES, HashParameters
from tests.reuse.grids import spans


def leaves(palette: np.ndarray, num_hashes: int) -> int:
    coordinates, thresholds = fit_tree(palette, num_hashes)
    assert coordinates.shape == thresholds.shape == (2**num_hashes - 1,)
    assert coordinates.min() >= 0 and coordinates.max() < palette.shape[1]
    parameters = HashParameters(coordinates=coordinates, thresholds=thresholds)
    return len(np.unique(FAMILIES["learned"].codes(palette, parameters, palette.shape[1])))


@pytest.mark.parametrize(("count", "length", "bits"), [(256, 8, 8), (200, 1, 8), (5, 3, 3), (1, 4, 1), (314, 64, 9)])
def test_every_vector_has_a_leaf_of_its_own(count: int, length: int, bits: int) -> None:
    palette = np.random.default_rng(count).standard_normal((count, length)).astype(np.float32)
    assert leaves(palette, bits) == count


@pytest.mark.parametrize(("count", "length", "bits"), [(200, 8, 8), (100, 4, 7), (314, 64, 9)])
def test_thresholds_lie_on_a_grid(count: int, length: int, bits: int) -> None:
    palette = np.random.default_rng(count).standard_normal((count, length)).astype(np.float32)
    assert max(spans(*fit_tree(palette, bits))) <= 254


def test_a_grid_joins_no_vectors() -> None:
    """On one coordinate, every gap between neighbours must be cut, and the narrowest is a millionth of the range."""
    palette = np.append(np.linspace(0, 1, 14), [0.3, 0.300001]).astype(np.float32)[:, None]
    assert leaves(palette, 4) == 16
    assert max(spans(*fit_tree(palette, 4))) > 254


def test_a_tree_that_is_too_small_uses_all_its_leaves() -> None:
    palette = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)
    assert leaves(palette, 5) == 32


def test_vectors_that_share_values_are_told_apart() -> None:
    """All 27 vectors of three values; a coordinate splits them 1 to 2 at best, so five levels are not enough."""
    palette = np.array(np.meshgrid(*[[0, 1, 2]] * 3), np.float32).reshape(3, -1).T
    assert leaves(palette, 6) == 27


def test_neighbouring_floats_are_told_apart() -> None:
    low = np.float32(1)
    high = np.nextafter(low, np.float32(2))
    assert median_split(np.array([[low], [high]], np.float32)) == (0, low)


def test_the_most_even_split_is_taken() -> None:
    vectors = np.array([[0, 0], [0, 1], [0, 2], [9, 3]], np.float32)
    split = median_split(vectors)
    assert split is not None
    coordinate, threshold = split
    assert coordinate == 1 and 1 <= threshold < 2
