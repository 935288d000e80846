"""Runs take turns."""

import os
from itertools import count

import pytest

from reuse_compiler.verification.timing import Turns, interleave, is_slower, ms_words, on_one_processor


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


def test_what_is_left_out_keeps_its_times() -> None:
    called: list[str] = []
    turns = Turns({name: (lambda name=name: called.append(name)) for name in "abc"})
    turns.round()
    turns.leave_out(["b"])
    turns.round()
    turns.round()
    assert "".join(called) == "abcacca"
    assert {name: len(times) for name, times in turns.samples.items()} == {"a": 3, "b": 1, "c": 3}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system cannot keep a thread on a processor")
def test_a_thread_is_kept_on_one_processor_unless_it_has_others() -> None:
    before = os.sched_getaffinity(0)
    with on_one_processor(1):
        assert len(os.sched_getaffinity(0)) == 1 and os.sched_getaffinity(0) <= before
    assert os.sched_getaffinity(0) == before
    with on_one_processor(2):
        assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("times", "slower"),
    [
        ([12.0, 13.0, 12.5, 11.5, 12.0], True),
        ([12.0, 13.0, 9.0, 11.5, 12.0], True),  # a disturbance of the other one
        ([12.0, 9.0, 9.0, 30.0, 12.0], False),
        ([10.1, 10.1, 10.1, 10.2, 10.1], False),  # within the noise
        ([8.0, 8.0, 8.0, 8.0, 8.0], False),
    ],
)
def test_slower_is_what_took_longer_in_most_rounds(times: list[float], slower: bool) -> None:
    assert is_slower({"mine": times, "other": [10.0] * 5}, "mine", "other") == slower


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(0.012345, "0.0123"), (35.06, "35.1"), (999.7, "1000"), (2468.2, "2468"), (1e5, "100000")],
)
def test_times_are_written_without_an_exponent(milliseconds: float, words: str) -> None:
    assert ms_words(milliseconds) == words
