"""Peaks of a machine that are round numbers, and the bench's small cases."""

import pytest

from tests.benchmark.conftest import MakeCase, small_case
from tools.goals.report import MachinePeaks

__all__ = ["MakeCase", "small_case"]


@pytest.fixture
def peaks() -> MachinePeaks:
    return MachinePeaks(
        threads=1, multiply_adds_per_second=1e9, cached_bytes_per_second=1e10, memory_bytes_per_second=1e9
    )
