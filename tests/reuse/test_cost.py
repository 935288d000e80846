"""The cost model against the papers' formulas."""

from dataclasses import replace

import pytest

from reuse_compiler.reuse.config import TableType
from reuse_compiler.reuse.cost import (
    CENTROID_COST,
    GATHER_COST,
    HASH_PASS_COST,
    INPUT_PASS_COST,
    INT8_GATHER_COST,
    LONGEST_WINDOW,
    OUTPUT_PASS_COST,
    QUANTISED,
    ROTATION,
    STATIC_BYTES,
    STATIC_GATHER_COST,
    TABLE_BYTE_COST,
    WINDOW_PASS_COST,
    Prices,
    counted_operations,
    expected_remaining_ratio,
    predicted_cost,
)
from reuse_compiler.reuse.families import FAMILIES
from reuse_compiler.reuse.geometry import Blocking, ByteOperator, ConvSpec

CONV = ConvSpec(1, 64, 56, 56, 128, (3, 3), pads=(1, 1, 1, 1))


def test_patch_layout_is_equation_5() -> None:
    prices = Prices(1.0, 1.0, WINDOW_PASS_COST, OUTPUT_PASS_COST)
    cost = predicted_cost(Blocking(CONV, "patch", 16), FAMILIES["sign"], 12, 0.1, prices=prices)
    assert cost.total - cost.passes == pytest.approx(12 / 128 + 0.1 + 1 / 16)
    assert cost.passes == pytest.approx(WINDOW_PASS_COST / 128 + OUTPUT_PASS_COST / 576)


def test_bytes_have_prices_of_their_own() -> None:
    cost = predicted_cost(Blocking(replace(CONV, element="uint8"), "channel", 64), FAMILIES["exact"], 1, 0.1)
    dense = 576 + QUANTISED.dense_pass
    assert cost.centroids * dense == pytest.approx(0.1 * (QUANTISED.centroid * 576 + QUANTISED.new_cluster / 128))
    assert cost.gathering * dense == pytest.approx(QUANTISED.gather * 9)
    assert cost.passes * dense == pytest.approx(QUANTISED.input_pass * 64 / 128 + QUANTISED.output_pass)


@pytest.mark.parametrize(("length", "turned"), [(8, ROTATION), (16, 0.0)])
def test_static_clusters_of_bytes_have_prices_of_their_own(length: int, turned: float) -> None:
    blocking, ratio = Blocking(replace(CONV, element="uint8"), "channel", length), 256 / 56**2
    cost = predicted_cost(blocking, FAMILIES["learned"], 8, ratio, table="int8", scope="static")
    dense, prices = 576 + STATIC_BYTES.dense_pass, STATIC_BYTES
    assert cost.centroids == 0.0
    assert cost.hashing * dense == pytest.approx(prices.hash * 8 / length * 64 / 128)
    assert cost.gathering * dense == pytest.approx((prices.gather + prices.table_byte * ratio) * 576 / length)
    assert cost.passes * dense == pytest.approx((prices.input_pass + turned) * 64 / 128 + prices.output_pass)


def test_a_run_s_clusters_of_bytes_pay_for_their_tables() -> None:
    spec = ConvSpec(1, 256, 56, 56, 256, (3, 3), pads=(1, 1, 1, 1), element="uint8")
    costs = {}
    for length in (8, 16, 32):
        of = [
            predicted_cost(
                Blocking(spec, "channel", length), FAMILIES["learned"], 8, 256 / 56**2, table="int8", scope=scope
            )
            for scope in ("batch", "static")
        ]
        assert of[0].centroids > of[1].centroids == 0.0 and of[0].gathering > of[1].gathering
        costs[length] = of[0].total
    assert costs[8] > 1.3 > 0.9 > costs[16] > 0.6 > costs[32]


def test_reuse_of_bytes_gains_more_beside_slower_operators() -> None:
    by: tuple[ByteOperator, ...] = ("QLinearConv", "Conv", "ConvInteger")
    specs = [replace(CONV, element="uint8", bytes_by=operator) for operator in by]
    costs = [predicted_cost(Blocking(spec, "channel", 64), FAMILIES["exact"], 1, 1.0).total for spec in specs]
    assert costs[0] > costs[1] > costs[2] and costs[2] < 0.3


def test_long_windows_are_passed_over_twice() -> None:
    passes = [
        predicted_cost(Blocking(CONV, "patch", LONGEST_WINDOW + i), FAMILIES["sign"], 12, 0.1).passes for i in (0, 1)
    ]
    assert passes[1] - passes[0] == pytest.approx((INPUT_PASS_COST - WINDOW_PASS_COST) / 128)


def test_channel_layout_hashes_once_for_all_taps() -> None:
    cost = predicted_cost(Blocking(CONV, "channel", 16), FAMILIES["sign"], 12, 0.1)
    assert cost.total - cost.passes == pytest.approx(12 / (9 * 128) + CENTROID_COST * 0.1 + GATHER_COST / 16)
    assert cost.passes == pytest.approx(INPUT_PASS_COST / (9 * 128) + OUTPUT_PASS_COST / 576)


def test_int8_tables_make_adds_cheaper() -> None:
    cost = predicted_cost(Blocking(CONV, "channel", 16), FAMILIES["sign"], 12, 0.1, table="int8")
    assert cost.gathering == pytest.approx(INT8_GATHER_COST / 16)


def test_reuse_across_batches_is_equation_6() -> None:
    cost = predicted_cost(Blocking(CONV, "patch", 16), FAMILIES["sign"], 12, 0.1, reuse_rate=0.9)
    assert cost.centroids == pytest.approx(CENTROID_COST * 0.1 * 0.1)


@pytest.mark.parametrize(("table", "size"), [("float", 4), ("int8", 1)])
def test_static_tables_are_read_and_not_computed(table: TableType, size: int) -> None:
    """The most that a layer of 56x56 pixels reads of a table with 256 rows; a smaller share of a larger layer."""
    family = FAMILIES["learned"]
    for side, ratio in ((56, 256 / 56**2), (112, 256 / 112**2)):
        blocking = Blocking(CONV.on((1, 64, side, side)), "channel", 8)
        cost = predicted_cost(blocking, family, 8, ratio, table=table, scope="static")
        assert cost.centroids == 0.0
        assert cost.gathering == pytest.approx((STATIC_GATHER_COST[table] + TABLE_BYTE_COST * size * ratio) / 8)
        assert cost.passes == pytest.approx(HASH_PASS_COST / (9 * 128) + OUTPUT_PASS_COST / 576)


def test_a_stride_makes_the_channel_layout_hash_pixels_that_are_read_less() -> None:
    strided = ConvSpec(1, 64, 56, 56, 128, (1, 1), (2, 2))
    cost = predicted_cost(Blocking(strided, "channel", 64), FAMILIES["sign"], 12, 0.1)
    assert cost.hashing == pytest.approx(4 * 12 / 128)


def test_groups_count_their_own_output_channels() -> None:
    grouped = ConvSpec(1, 64, 56, 56, 128, (3, 3), pads=(1, 1, 1, 1), group=4)
    cost = predicted_cost(Blocking(grouped, "patch", 16), FAMILIES["sign"], 12, 0.1)
    assert cost.hashing == pytest.approx(12 / 32)


def test_remaining_ratio_is_bounded_by_the_number_of_codes() -> None:
    blocking = Blocking(CONV, "channel", 64)
    assert expected_remaining_ratio(blocking, FAMILIES["sign"], 6) == pytest.approx(64 / 56**2)
    assert expected_remaining_ratio(blocking, FAMILIES["sign"], 40) == 1.0
    assert expected_remaining_ratio(blocking, FAMILIES["exact"], 1) == 1.0


def test_operations_are_the_papers_formula() -> None:
    """Training paper's Eq. 5, by hand: 6 results, L = 4, one tap."""
    pixelwise = Blocking(ConvSpec(1, 12, 4, 4, 6, (1, 1)), "channel", 4)
    assert counted_operations(pixelwise, FAMILIES["sign"], 3, 0.25) == pytest.approx(3 / 6 + 0.25 + 1 / 4)
