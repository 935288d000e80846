"""Interleaved timing: what is compared runs in turn, so that a disturbance of the machine meets all alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from statistics import median, quantiles
from typing import Any, Generic, TypeVar

from reuse_compiler.progress import ProgressCallback, silent

Result = TypeVar("Result")
Samples = dict[str, list[float]]
"""Milliseconds of every run, by what was run."""


NOISE = 0.03
"""Share of a time by which the medians of equal runs may differ on a quiet machine."""


@contextmanager
def on_one_processor(threads: int) -> Iterator[None]:
    """Keeps this thread on one processor where the system allows it, unless what is timed has more `threads`."""
    if threads > 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, before)


def ms_words(milliseconds: float) -> str:
    """Returns a time with at least three significant digits, and without an exponent."""
    return f"{milliseconds:.3g}" if milliseconds < 999.5 else f"{milliseconds:.0f}"


def is_slower(samples: Samples, name: str, other: str) -> bool:
    """Tells whether runs of `name` took longer than those of `other` in the same rounds by more than the noise.

    They did in about three rounds of four, and in the middle by more than equal runs differ.
    """
    longer = [mine - theirs for mine, theirs in zip(samples[name], samples[other], strict=True)]
    return quantiles(longer, n=4)[0] > 0 and median(longer) > NOISE * median(samples[other])


class Turns(Generic[Result]):
    """Functions that are called in rounds, each of which begins with another one; `clock` tells seconds."""

    def __init__(
        self, runs: Mapping[str, Callable[..., Result]], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._runs, self._clock, self._next = dict(runs), clock, 0
        self.samples: Samples = {name: [] for name in runs}

    def round(self, *arguments: Any) -> dict[str, Result]:
        """Calls each function once, with these arguments; returns what they return."""
        names, results = list(self._runs), {}
        for name in names[self._next :] + names[: self._next]:
            start = self._clock()
            results[name] = self._runs[name](*arguments)
            self.samples[name].append(1e3 * (self._clock() - start))
        self._next = (self._next + 1) % len(names)
        return results

    def leave_out(self, names: Iterable[str]) -> None:
        """Calls these functions no more; their times are kept."""
        for name in names:
            del self._runs[name]
        self._next = 0

    def forget_times(self) -> None:
        """Takes what has run so far for a warm-up."""
        for times in self.samples.values():
            times.clear()

    def median_ms(self, name: str) -> float:
        """Returns the median time of a function."""
        return median(self.samples[name])


def interleave(
    runs: Mapping[str, Callable[[], object]],
    repeats: int,
    progress: ProgressCallback = silent,
    what: str = "timing",
    clock: Callable[[], float] = time.perf_counter,
) -> Samples:
    """Calls each of `runs` `repeats` times, in turn."""
    turns = Turns(runs, clock)
    for index in range(repeats):
        progress(what, index, repeats)
        turns.round()
    progress(what, repeats, repeats)
    return turns.samples
