"""The relative error against its formula, and what does not count."""

import math

import numpy as np
import pytest

from reuse_compiler.verification.compare import CHUNK, Difference


def test_is_the_relative_l2_error_over_all_pairs_and_chunks() -> None:
    rng = np.random.default_rng(0)
    expected = [rng.standard_normal((3, CHUNK // 2)).astype(np.float32), rng.standard_normal(7).astype(np.float32)]
    actual = [e + rng.standard_normal(e.shape).astype(np.float32) * np.float32(0.1) for e in expected]
    difference = Difference()
    for e, a in zip(expected, actual, strict=True):
        difference.add(e, a)
    flat_expected, flat_actual = (np.concatenate([x.ravel() for x in xs]).astype(float) for xs in (expected, actual))
    error = flat_actual - flat_expected
    assert difference.rel_error == pytest.approx(np.linalg.norm(error) / np.linalg.norm(flat_expected), rel=1e-9)
    assert difference.max_abs_error == pytest.approx(np.abs(error).max())
    assert difference.elements == flat_expected.size


def test_equal_tensors_have_no_error_even_if_zero_or_empty() -> None:
    difference = Difference()
    assert difference.rel_error == 0.0
    difference.add(np.zeros((2, 0)), np.zeros((2, 0)))
    difference.add(np.zeros(3), np.zeros(3))
    assert (difference.rel_error, difference.max_abs_error, difference.differing) == (0.0, 0.0, 0)


def test_an_error_on_zeros_is_infinite() -> None:
    difference = Difference()
    difference.add(np.zeros(3), np.array([0.0, 1.0, 0.0]))
    assert difference.rel_error == math.inf
    assert difference.differing == 1


def test_what_the_original_leaves_undefined_does_not_count() -> None:
    difference = Difference()
    difference.add(np.array([1.0, np.nan, np.inf, -np.inf]), np.array([1.0, 5.0, np.inf, np.nan]))
    assert (difference.rel_error, difference.undefined, difference.broken) == (0.0, 3, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_defined_element_that_became_undefined_is_broken(value: float) -> None:
    difference = Difference()
    difference.add(np.array([1.0, 2.0]), np.array([1.0, value]))
    assert (difference.broken, difference.rel_error) == (1, math.inf)


def test_counts_differing_integers() -> None:
    difference = Difference()
    difference.add(np.array([3, 1, 4]), np.array([3, 2, 5]))
    assert (difference.differing, difference.elements) == (2, 3)


def test_refuses_different_shapes() -> None:
    with pytest.raises(ValueError, match=r"\[2\] and \[3\]"):
        Difference().add(np.zeros(2), np.zeros(3))
