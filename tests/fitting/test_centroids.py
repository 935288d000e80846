"""Centroids of scope static: means by code, also of codes that no sample has, for every layer that there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from reuse_compiler.fitting.centroids import means_by_code
from reuse_compiler.fitting.hashes import HashFitter
from reuse_compiler.reference.operators import hash_vectors
from reuse_compiler.reference.vectors import neuron_vectors
from reuse_compiler.reuse.config import make_settings
from reuse_compiler.reuse.families import FAMILIES
from tests.custom_ops.cases import Case, cases
from tests.fitting.test_hashes import GEOMETRY, WEIGHTS, input_of, sample_of
from tests.passes.models import random_array

Floats = NDArray[np.float32]
MOST_BITS = 6


def means_one_by_one(vectors: Floats, codes: NDArray[np.int64], num_hashes: int) -> Floats:
    """The definition: of each code the mean of the vectors whose codes begin with as many of its bits as any do."""
    means = []
    for code in range(2**num_hashes):
        below = next(own for bits in range(num_hashes + 1) if (own := codes >> bits == code >> bits).any())
        means.append(vectors[below].astype(np.float64).mean(axis=0))
    return np.array(means, np.float32)


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_the_centroid_of_a_code_is_the_mean_of_the_vectors_below_it(case: Case) -> None:
    """Of any geometry, with short blocks and groups: codes are the reference's, parts of short blocks stay zeros."""
    if FAMILIES[case.family].lossless or case.num_hashes > MOST_BITS:
        return
    own = make_settings(
        family=case.family, layout=case.layout, L=case.sub_vector_length, H=case.num_hashes, scope="static"
    )
    x, weights, _ = case.data()
    plan = HashFitter(sample_of(case.spec, case.layout, x), weights).plan(own)
    plan.check("conv")
    assert plan.centroids is not None
    vectors, codes = neuron_vectors(x, case.blocking), hash_vectors(x, case.blocking, case.family, plan.parameters)
    for block, centroids in enumerate(plan.centroids):
        expected = means_one_by_one(vectors[block], codes[block], case.num_hashes)
        np.testing.assert_allclose(centroids, expected, rtol=1e-6, atol=1e-6)
        assert not centroids[:, case.blocking.block_length(block) :].any()


def test_large_values_do_not_drown_small_ones() -> None:
    """float32 sums would give 0 for the first."""
    vectors = np.array([[1e8], [1.0], [-1e8], [5.0]], np.float32)
    found = means_by_code(vectors[None], np.array([[2, 2, 2, 0]]), 2)
    np.testing.assert_array_equal(found[0, :, 0], np.array([5, 5, 1 / 3, 1 / 3], np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_vectors_that_are_not_finite_do_not_take_part(bad: float) -> None:
    own = make_settings(family="learned", layout="channel", L=4, H=3, scope="static")
    x = input_of(GEOMETRY)
    clean = HashFitter(sample_of(GEOMETRY, "channel", x), WEIGHTS).plan(own)
    x = np.concatenate([x, np.full_like(x, bad)], axis=2)
    sample = sample_of(GEOMETRY.on(x.shape), "channel", x)
    np.testing.assert_array_equal(HashFitter(sample, WEIGHTS).plan(own).centroids, clean.centroids)


@pytest.mark.filterwarnings("error")
def test_nothing_to_fit_to() -> None:
    own = make_settings(family="learned", layout="channel", L=4, H=3, scope="static")
    sample = sample_of(GEOMETRY, "channel", np.full_like(input_of(GEOMETRY), np.nan))
    np.testing.assert_array_equal(HashFitter(sample, WEIGHTS).plan(own).centroids, np.zeros((4, 8, 4)))


def test_static_trees_have_a_leaf_for_every_code() -> None:
    """A static table has its rows whether they are used or not; trees of other scopes have room to spare instead."""
    x = random_array(*GEOMETRY.input_shape[:2], 40, 40)
    fitter = HashFitter(sample_of(GEOMETRY.on(x.shape), "channel", x), WEIGHTS)
    used = []
    for scope in ("static", "batch"):
        own = make_settings(family="learned", layout="channel", L=4, H=5, scope=scope)
        codes = hash_vectors(x, own.blocking(GEOMETRY.on(x.shape)), "learned", fitter.fit(own))
        used.append([len(np.unique(block)) for block in codes])
    assert used == [[32] * 4, [8] * 4]
