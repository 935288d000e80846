"""Rows at some places are those rows of the whole unfolded input."""

import numpy as np
import pytest
from hypothesis import given, settings

from reuse_compiler.fitting.vectors import LARGEST, choose_places, neuron_vectors, pixels_at, unfold_at, usable_rows
from reuse_compiler.reference import vectors
from reuse_compiler.reference.vectors import unfold
from tests.custom_ops.cases import Case, cases
from tests.passes.models import random_array


@settings(max_examples=80, deadline=None)
@given(case=cases())
def test_rows_are_those_of_the_unfolded_input(case: Case) -> None:
    g, (x, _, _) = case.spec, case.data()
    backwards = np.arange(g.rows)[::-1]
    for group in range(g.group):
        np.testing.assert_array_equal(unfold_at(x, g, group, backwards), unfold(x, g, group)[::-1])


@settings(max_examples=80, deadline=None)
@given(case=cases())
def test_neuron_vectors_are_those_of_the_reference(case: Case) -> None:
    x, _, _ = case.data()
    np.testing.assert_array_equal(neuron_vectors(x, case.blocking), vectors.neuron_vectors(x, case.blocking))


def test_pixels_are_vectors_of_channels() -> None:
    x = random_array(2, 3, 4, 5)
    places = np.array([0, 7, 19, 20, 39])
    np.testing.assert_array_equal(pixels_at(x, places), x.transpose(0, 2, 3, 1).reshape(-1, 3)[places])


@pytest.mark.parametrize(("total", "count", "expected"), [(10, 4, 4), (10, 10, 10), (3, 10, 3), (1, 1, 1), (0, 5, 0)])
def test_places_are_different_and_ascend(total: int, count: int, expected: int) -> None:
    places = choose_places(np.random.default_rng(0), total, count)
    assert len(places) == expected and (np.diff(places) > 0).all()
    assert places.size == 0 or 0 <= places.min() <= places.max() < total


def test_rows_that_cannot_be_summed_up_are_not_usable() -> None:
    rows = np.ones((6, 3), np.float32)
    rows[1, 0], rows[2, 1], rows[3, 2], rows[4, 0] = np.nan, -np.inf, 2 * LARGEST, -2 * LARGEST
    np.testing.assert_array_equal(usable_rows(rows), [True, False, False, False, False, True])
