"""What may be measured, and the sentences for what may not."""

from typing import Any

import pytest

from reuse_compiler.benchmark.case import make_case
from reuse_compiler.errors import ConfigError
from tests.benchmark.conftest import MakeCase

VALUES: dict[str, Any] = {
    "input_shape": (1, 256, 56, 56),
    "weight_shape": (256, 256, 3, 3),
    "sub_vector_length": 64,
    "remaining_ratio": 0.1,
}


def test_defaults() -> None:
    case = make_case(**VALUES)
    assert case.spec.pads == (1, 1, 1, 1) and case.spec.output_shape == case.spec.input_shape
    assert (case.blocking.layout, case.family, case.order, case.table) == ("channel", "learned", "local", "float")
    assert case.distinct == round(0.1 * 3136) == 314
    assert case.hashes_for(case.distinct) == 9, "2^9 leaves are enough for 314 vectors, 2^8 are not"
    assert case.spec.multiply_adds == 3136 * 2304 * 256
    assert str(case) == "256->256, 3x3, 56x56"


@pytest.mark.parametrize(
    ("dilations", "kernel", "pads"), [((1, 1), 5, (2, 2, 2, 2)), ((2, 3), 3, (2, 3, 2, 3)), ((1, 1), 1, (0, 0, 0, 0))]
)
def test_default_padding_keeps_the_size(
    dilations: tuple[int, int], kernel: int, pads: tuple[int, int, int, int]
) -> None:
    case = make_case(**VALUES | {"weight_shape": (8, 256, kernel, kernel), "dilations": dilations})
    assert case.spec.pads == pads and case.spec.output_shape == (1, 8, 56, 56)


def test_layout_follows_the_channels() -> None:
    assert make_case(**VALUES | {"sub_vector_length": 63}).blocking.layout == "patch"
    assert make_case(**VALUES | {"sub_vector_length": 63, "layout": "channel"}).blocking.num_blocks == 5


def test_bits(small_case: MakeCase) -> None:
    assert small_case(num_hashes=3).hashes_for(100) == 3
    assert small_case(family="exact", num_hashes=3).hashes_for(100) == 1
    assert small_case(family="sign").hashes_for(100) == 13
    assert small_case().hashes_for(1) == 1
    assert small_case().hashes_for(10**6) == 16, "the most that a tree may have"
    assert small_case(family="sign", scope="static").hashes_for(10**6) == 16, "the most codes that have centroids"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_shape": (256, 128, 3, 3)}, "the input has 256 channels, but weights 256x128x3x3 in 1 group"),
        ({"weight_shape": (255, 128, 3, 3), "group": 2}, "255 output channels cannot be divided into --group 2"),
        ({"weight_shape": (8, 256, 64, 64), "pads": (0, 0, 0, 0)}, "the output is empty: a kernel 64x64 does not fit"),
        ({"strides": (0, 1)}, "--stride, --dilation and --group must be at least 1"),
        ({"sub_vector_length": 257, "layout": "channel"}, "--L 257 is larger than the 256 channels of a group"),
        ({"sub_vector_length": 2305}, "--L 2305 is larger than the 2304 columns of the unfolded input"),
        ({"remaining_ratio": 0.0001}, "not even one distinct vector: give at least 0.00032"),
        ({"remaining_ratio": -1.0}, "not even one distinct vector"),
        ({"remaining_ratio": float("nan")}, "not even one distinct vector"),
        ({"remaining_ratio": 1.1}, "asks for 3450 distinct vectors, but a block has only 3136: give at most 1"),
        ({"num_hashes": 17}, "--bits 17: family learned takes 1 to 16"),
        ({"num_hashes": 65, "family": "sign"}, "--bits 65: family sign takes 1 to 64"),
        ({"scope": "static", "family": "exact"}, "scope static needs another"),
        ({"scope": "static", "family": "sign", "num_hashes": 17}, "H=17 is too large: scope static takes at most 16"),
        ({"scope": "session", "table": "int8"}, "needs table float"),
    ],
)
def test_impossible_cases(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_case(**VALUES | changes)
    assert message in str(error.value)


def test_more_vectors_than_rows_are_possible_with_strides() -> None:
    """With stride 2 a block has four times as many vectors as the unfolded input has rows."""
    assert make_case(**VALUES | {"strides": (2, 2), "remaining_ratio": 4.0}).distinct == 3136
    with pytest.raises(ConfigError, match="give at most 4"):
        make_case(**VALUES | {"strides": (2, 2), "remaining_ratio": 4.1})


def test_tables_are_float_unless_asked_otherwise() -> None:
    assert make_case(**VALUES).table == "float"
    assert make_case(**VALUES | {"table": "int8"}).table == "int8"
