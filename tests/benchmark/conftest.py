"""Small cases to measure, and peaks of a machine that are round numbers."""

from collections.abc import Callable
from typing import Any

import pytest

from reuse_compiler.benchmark.case import ConvCase, make_case
from reuse_compiler.benchmark.report import MachinePeaks

MakeCase = Callable[..., ConvCase]


@pytest.fixture
def small_case() -> MakeCase:
    """`make_case` of a layer 16->8, 3x3, 12x12, batch 2 with 29 distinct vectors per block, unless told otherwise."""

    def make(**changes: Any) -> ConvCase:
        values: dict[str, Any] = {
            "input_shape": (2, 16, 12, 12),
            "weight_shape": (8, 16, 3, 3),
            "sub_vector_length": 8,
            "remaining_ratio": 0.1,
        }
        return make_case(**values | changes)

    return make


@pytest.fixture
def peaks() -> MachinePeaks:
    return MachinePeaks(
        threads=1, multiply_adds_per_second=1e9, cached_bytes_per_second=1e10, memory_bytes_per_second=1e9
    )
