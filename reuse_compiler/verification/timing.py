"""Interleaved timing: what is compared runs in turn, so that a disturbance of the machine meets all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from reuse_compiler.progress import ProgressCallback, silent

Samples = dict[str, list[float]]
"""Milliseconds of every run, by what was run."""


def nothing() -> None:
    """What is done before a round unless something is."""


def interleave(
    runs: Mapping[str, Callable[[], object]],
    repeats: int,
    progress: ProgressCallback = silent,
    what: str = "timing",
    before_round: Callable[[], None] = nothing,
    clock: Callable[[], float] = time.perf_counter,
) -> Samples:
    """Calls each of `runs` `repeats` times, in rounds of which each begins with another one; `clock` tells seconds."""
    names = list(runs)
    samples: Samples = {name: [] for name in names}
    for index in range(repeats):
        progress(what, index, repeats)
        before_round()
        first = index % len(names)
        for name in names[first:] + names[:first]:
            start = clock()
            runs[name]()
            samples[name].append(1e3 * (clock() - start))
    progress(what, repeats, repeats)
    return samples
