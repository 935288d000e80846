"""Peaks are measured, once."""

from reuse_compiler.benchmark.peaks import measure_peaks


def test_peaks_are_plausible_and_kept() -> None:
    peaks = measure_peaks(1)
    assert peaks.threads == 1 and measure_peaks(1) is peaks
    rates = (peaks.multiply_adds_per_second, peaks.cached_bytes_per_second, peaks.memory_bytes_per_second)
    assert all(1e7 < rate < 1e15 for rate in rates)
