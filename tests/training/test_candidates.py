"""Ranges by Policies 1 and 2 and the order of Policy 3, on the papers' layers."""

from __future__ import annotations

import itertools

import pytest

from reuse_compiler.reuse.geometry import ConvSpec, Layout
from reuse_compiler.training.candidates import (
    candidates,
    choose_layout,
    numbers_of_hashes,
    policy3,
    sub_vector_lengths,
)

CONV1 = ConvSpec(100, 3, 32, 32, 64, (5, 5), pads=(2, 2, 2, 2))
CONV2 = ConvSpec(100, 64, 16, 16, 64, (5, 5), pads=(2, 2, 2, 2))
VGG = ConvSpec(16, 64, 32, 32, 128, (3, 3), pads=(1, 1, 1, 1))


@pytest.mark.parametrize(
    "spec, layout, first, lengths",
    [
        (CONV1, "patch", True, [10, 5]),  # ceil(sqrt(3)) * 5
        (CONV2, "patch", False, [40, 35, 30, 25, 20, 15, 10, 5]),  # sqrt(64) * 5
        (CONV2, "channel", False, [32, 22, 16, 13, 11, 10, 8, 7, 6, 5]),  # 64 channels in 2, 3, ... 13 blocks
        (VGG, "patch", False, [24, 21, 18, 15, 12, 9]),  # Amendment 1: not below 3 * 3
        (VGG, "patch", True, [24, 21, 18, 15, 12, 9, 6, 3]),
        (VGG, "channel", False, [22, 16, 13, 11, 10]),
        (CONV1, "channel", True, [3]),  # there are only three channels
    ],
)
def test_lengths_are_in_the_range_of_policy_1(spec: ConvSpec, layout: Layout, first: bool, lengths: list[int]) -> None:
    assert sub_vector_lengths(spec, layout, first) == lengths


def test_numbers_of_hashes_are_in_the_range_of_policy_2() -> None:
    assert numbers_of_hashes(CONV2, "sign") == [9, 10, 11, 12, 13, 14]  # 2^9 > 256, 2^14 < 25600
    assert numbers_of_hashes(ConvSpec(900, 3, 32, 32, 8, (1, 1)), "learned") == [14, 15, 16]


def test_policy_3_takes_the_step_that_adds_less_time() -> None:
    # 1/20 - 1/40 = 0.025 < 2/64 = 0.031 < 1/10 - 1/20 = 0.05; then 4/64 = 0.0625 > 0.05.
    assert policy3([40, 20, 10], [8, 10, 14], out_channels=64) == [(40, 8), (20, 8), (20, 10), (10, 10), (10, 14)]
    # Where a pixel is hashed once for all 25 taps, hashes cost next to nothing.
    assert policy3([40, 20], [8, 10, 14], 64, taps=25) == [(40, 8), (40, 10), (40, 14), (20, 14)]
    assert policy3([7], [3], 64) == [(7, 3)]


def test_candidates_go_from_the_most_reuse_to_the_least() -> None:
    found = candidates(CONV2, first_layer=False)
    assert choose_layout(CONV1) == "patch" and choose_layout(CONV2) == "channel"
    assert (found[0].layout, found[0].sub_vector_length, found[0].num_hashes) == ("channel", 32, 9)
    assert (found[-1].sub_vector_length, found[-1].num_hashes) == (5, 14)
    assert len(found) == 10 + 6 - 1
    for before, after in itertools.pairwise(found):
        shorter = after.sub_vector_length < before.sub_vector_length
        assert shorter != (after.num_hashes > before.num_hashes)


def test_nothing_finer_than_asked_for_is_tried() -> None:
    found = candidates(CONV2, first_layer=False, finest=(8, 11))
    assert (found[0].sub_vector_length, found[0].num_hashes) == (32, 9)
    assert (found[-1].sub_vector_length, found[-1].num_hashes) == (8, 11)
    assert found[:3] == candidates(CONV2, first_layer=False)[:3]  # L=32, H=9 to 11
    (only,) = candidates(CONV2, first_layer=False, finest=(64, 1))  # coarser than anything: the coarsest there is
    assert (only.sub_vector_length, only.num_hashes) == (32, 9)
