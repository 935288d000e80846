"""What is told of the times of many runs."""

from reuse_compiler.benchmark.report import summarize


def test_medians_and_ratios() -> None:
    timing = summarize([2.0, 9.0, 4.0], dense_ms=8.0, multiply_adds=4 * 10**6)
    assert (timing.median_ms, timing.fastest_ms, timing.speedup) == (4.0, 2.0, 2.0)
    assert timing.gflops == 2.0 and timing.samples_ms == [2.0, 9.0, 4.0]
    assert summarize([1.0], 1.0).gflops is None
