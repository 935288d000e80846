"""Runs take turns."""

from itertools import count

from reuse_compiler.verification.timing import Turns, interleave


def test_each_round_begins_with_another() -> None:
    called: list[str] = []
    runs = {name: (lambda name=name: called.append(name)) for name in "abc"}
    steps: list[tuple[str, int, int]] = []
    samples = interleave(runs, 4, lambda *step: steps.append(step), "work")
    assert "".join(called) == "abcbcacababc"
    assert {name: len(times) for name, times in samples.items()} == {"a": 4, "b": 4, "c": 4}
    assert all(time >= 0 for times in samples.values() for time in times)
    assert steps == [("work", done, 4) for done in range(5)]


def test_a_round_gives_its_arguments_to_all_and_tells_what_they_return() -> None:
    seconds = count()
    turns = Turns({"square": lambda x: x * x, "negative": lambda x: -x}, clock=lambda: float(next(seconds)))
    assert turns.round(3) == {"square": 9, "negative": -3}
    turns.forget_times()
    assert turns.round(4) == {"square": 16, "negative": -4}
    assert turns.samples == {"square": [1e3], "negative": [1e3]} and turns.median_ms("square") == 1e3
