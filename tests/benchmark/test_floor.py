"""The floor is what the formulas of docs/operators.md need at least, over the peaks."""

from dataclasses import replace

import pytest

from reuse_compiler.benchmark.case import make_case
from reuse_compiler.benchmark.floor import centroid_multiply_adds, compute_floor
from reuse_compiler.benchmark.inputs import build_input
from reuse_compiler.benchmark.report import MachinePeaks
from tests.benchmark.conftest import MakeCase


def test_channel_layout_by_hand(small_case: MakeCase, peaks: MachinePeaks) -> None:
    """Two blocks of 288 vectors of 8 channels, 29 clusters each; 8 output channels, 9 taps."""
    case = small_case()
    floor = compute_floor(case, build_input(case), peaks)
    assert floor.hash.multiply_adds == 2 * 288 * 5, "five comparisons per vector"
    assert floor.hash.memory_bytes == 4 * 2 * 16 * 12 * 12
    assert floor.cluster.multiply_adds == 2 * 288 * 8
    assert floor.gemm.multiply_adds == 2 * 29 * 8 * 72 == centroid_multiply_adds(case, build_input(case))
    assert floor.gemm.cached_bytes == 4 * 2 * 29 * 72
    # An axis of 12 with a kernel of 3 has 34 pairs of output and tap inside the image.
    assert floor.gather.multiply_adds == 2 * 2 * 34 * 34 * 8
    assert floor.gather.memory_bytes == 4 * 288 * 8
    assert floor.dense_ms == pytest.approx(1e3 * 288 * 144 * 8 / 1e9)
    stages = (floor.hash, floor.cluster, floor.gemm, floor.gather)
    assert floor.total_ms == pytest.approx(sum(stage.ms for stage in stages))
    for stage in stages:
        parts = (stage.multiply_adds / 1e9, stage.cached_bytes / 1e10, stage.memory_bytes / 1e9)
        assert stage.ms == pytest.approx(1e3 * max(parts)) and stage.ms > 0


def test_int8_tables_have_a_quarter_of_the_bytes_and_half_the_adds(small_case: MakeCase, peaks: MachinePeaks) -> None:
    case = small_case()
    data = build_input(case)
    wide, narrow = compute_floor(case, data, peaks), compute_floor(replace(case, table="int8"), data, peaks)
    assert narrow.gather.cached_bytes == wide.gather.cached_bytes / 4
    assert narrow.gather.multiply_adds == wide.gather.multiply_adds / 2
    assert narrow.gemm.multiply_adds == wide.gemm.multiply_adds


@pytest.mark.parametrize("scope", ["static", "session"])
def test_kept_tables_are_read_and_not_computed(small_case: MakeCase, peaks: MachinePeaks, scope: str) -> None:
    case = small_case(scope=scope)
    floor = compute_floor(case, build_input(case), peaks)
    assert floor.gemm.ms == floor.cluster.multiply_adds == centroid_multiply_adds(case, build_input(case)) == 0
    assert floor.gather.memory_bytes == 4 * 288 * 8 + 4 * 2 * 29 * 72, "the output and the rows that occur"


def test_patch_layout_by_hand(peaks: MachinePeaks) -> None:
    case = make_case(
        input_shape=(1, 3, 16, 16),
        weight_shape=(8, 3, 3, 3),
        sub_vector_length=20,
        remaining_ratio=0.3,
        family="exact",
    )
    data = build_input(case)
    floor = compute_floor(case, data, peaks)
    assert floor.gather.multiply_adds == 256 * 2 * 8, "one row of each of the two blocks per output pixel"
    assert floor.hash.cached_bytes == 4 * 256 * 27 and floor.cluster.multiply_adds == 0
    assert floor.gemm.multiply_adds == (data.clusters[0] * 20 + data.clusters[1] * 7) * 8
