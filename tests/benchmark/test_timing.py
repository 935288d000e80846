"""Runs take turns, and medians are taken."""

from reuse_compiler.benchmark.timing import interleave, summarize


def test_each_round_begins_with_another() -> None:
    called: list[str] = []
    runs = {name: (lambda name=name: called.append(name)) for name in "abc"}
    steps: list[tuple[str, int, int]] = []
    samples = interleave(runs, 4, lambda *step: steps.append(step), "work", before_round=lambda: called.append("|"))
    assert "".join(called) == "|abc|bca|cab|abc"
    assert {name: len(times) for name, times in samples.items()} == {"a": 4, "b": 4, "c": 4}
    assert all(time >= 0 for times in samples.values() for time in times)
    assert steps == [("work", done, 4) for done in range(5)]


def test_medians_and_ratios() -> None:
    timing = summarize([2.0, 9.0, 4.0], dense_ms=8.0, multiply_adds=4 * 10**6)
    assert (timing.median_ms, timing.fastest_ms, timing.speedup) == (4.0, 2.0, 2.0)
    assert timing.gflops == 2.0 and timing.samples_ms == [2.0, 9.0, 4.0]
    assert summarize([1.0], 1.0).gflops is None
