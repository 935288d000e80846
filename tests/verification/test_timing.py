"""Runs take turns."""

from reuse_compiler.verification.timing import interleave


def test_each_round_begins_with_another() -> None:
    called: list[str] = []
    runs = {name: (lambda name=name: called.append(name)) for name in "abc"}
    steps: list[tuple[str, int, int]] = []
    samples = interleave(runs, 4, lambda *step: steps.append(step), "work", before_round=lambda: called.append("|"))
    assert "".join(called) == "|abc|bca|cab|abc"
    assert {name: len(times) for name, times in samples.items()} == {"a": 4, "b": 4, "c": 4}
    assert all(time >= 0 for times in samples.values() for time in times)
    assert steps == [("work", done, 4) for done in range(5)]
