"""Inputs have exactly the distinct vectors that they say, and the hash parameters tell them apart."""

from typing import Any

import numpy as np
import pytest

from reuse_compiler.benchmark.case import ConvCase
from reuse_compiler.benchmark.inputs import build_input
from reuse_compiler.reference.operators import hash_vectors
from reuse_compiler.reference.vectors import neuron_vectors
from reuse_compiler.reuse.families import FAMILIES
from tests.benchmark.conftest import MakeCase


def distinct_vectors(case: ConvCase, x: np.ndarray) -> list[int]:
    return [len(np.unique(block, axis=0)) for block in neuron_vectors(x, case.blocking)]


@pytest.mark.parametrize("order", ["local", "random"])
@pytest.mark.parametrize("family", ["learned", "sign", "exact"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sub_vector_length": 5, "layout": "channel"},  # the last block has one channel
        {"weight_shape": (8, 8, 3, 3), "group": 2, "strides": (2, 2), "remaining_ratio": 0.5},
        {"remaining_ratio": 1.0},
        {"remaining_ratio": 1 / 288},
    ],
)
def test_channel_layout_is_exactly_as_redundant_as_asked(
    small_case: MakeCase, order: str, family: str, changes: dict[str, Any]
) -> None:
    case = small_case(order=order, family=family, **changes)
    data = build_input(case)
    assert data.x.shape == case.spec.input_shape and data.x.dtype == np.float32
    assert distinct_vectors(case, data.x) == list(data.distinct) == [case.distinct] * case.blocking.num_blocks
    # Hyperplanes through the origin have two codes for the vectors of a block with one channel.
    if not (family == "sign" and case.blocking.sub_vector_length == 5):
        assert data.clusters == data.distinct and data.cells is None


@pytest.mark.parametrize("order", ["local", "random"])
@pytest.mark.parametrize("family", ["learned", "exact"])
@pytest.mark.parametrize("length", [27, 10])
def test_patch_layout_says_how_redundant_it_is(small_case: MakeCase, order: str, family: str, length: int) -> None:
    shapes: dict[str, Any] = {"input_shape": (1, 3, 32, 32), "weight_shape": (8, 3, 3, 3)}
    case = small_case(order=order, family=family, sub_vector_length=length, **shapes)
    data = build_input(case)
    assert case.blocking.layout == "patch" and data.cells is not None
    assert distinct_vectors(case, data.x) == list(data.distinct)
    assert data.clusters == data.distinct
    assert np.mean(data.distinct) == pytest.approx(case.distinct, rel=0.2)


def test_clusters_are_the_codes_of_the_vectors(small_case: MakeCase) -> None:
    case = small_case(num_hashes=3)
    data = build_input(case)
    vectors = neuron_vectors(data.x, case.blocking)
    codes = [FAMILIES["learned"].codes(v, data.parameters.block(b), 8) for b, v in enumerate(vectors)]
    assert data.num_hashes == 3 and data.clusters == (8, 8) == tuple(len(np.unique(each)) for each in codes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sub_vector_length": 5, "layout": "channel"},
        {"family": "sign", "order": "random"},
        {"input_shape": (1, 3, 32, 32), "weight_shape": (8, 3, 3, 3), "sub_vector_length": 10},
    ],
)
def test_static_centroids_are_the_vectors_themselves(small_case: MakeCase, changes: dict[str, Any]) -> None:
    case = small_case(scope="static", **changes)
    data = build_input(case)
    assert data.centroids is not None and data.clusters == data.distinct
    codes = hash_vectors(data.x, case.blocking, case.family, data.parameters)
    for block, vectors in enumerate(neuron_vectors(data.x, case.blocking)):
        np.testing.assert_array_equal(data.centroids[block, codes[block]], vectors)


def test_a_seed_repeats_the_input(small_case: MakeCase) -> None:
    first, again, other = (build_input(small_case(seed=seed)).x for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
