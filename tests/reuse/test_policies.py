"""The papers' policies for L and H."""

import pytest

from reuse_compiler.reuse.geometry import ConvSpec
from reuse_compiler.reuse.policies import num_hashes_range, sub_vector_length_range


def spec(in_channels: int, kernel: int) -> ConvSpec:
    return ConvSpec(1, in_channels, 32, 32, 64, (kernel, kernel))


@pytest.mark.parametrize(
    ("in_channels", "kernel", "first", "expected"),
    [
        (3, 5, True, (5, 10)),  # Policy 1: k_w to ceil(sqrt(3)) * 5
        (64, 5, False, (5, 40)),
        (64, 3, False, (9, 24)),  # Amendment 1: 3*3 < 10
        (64, 3, True, (3, 24)),
        (1, 1, False, (1, 1)),
    ],
)
def test_policy_1_and_amendment_1(in_channels: int, kernel: int, first: bool, expected: tuple[int, int]) -> None:
    assert sub_vector_length_range(spec(in_channels, kernel), first) == expected


@pytest.mark.parametrize("rows", [1, 10, 100, 1024, 50176, 100 * 1024])
def test_policy_2(rows: int) -> None:
    smallest, largest = num_hashes_range(rows)
    assert 1 <= smallest <= largest
    assert 2**smallest > 0.01 * rows
    assert smallest == 1 or 2 ** (smallest - 1) <= 0.01 * rows
    assert largest == smallest or 2**largest < rows
    assert 2 ** (largest + 1) >= rows
