"""Times of runs that take turns, on the processor or on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from tools.training_results.results import Device


def median_times(
    runs: Mapping[str, Callable[[int], object]], rounds: int, warm_up: int, device: Device
) -> dict[str, float]:
    """Returns the median milliseconds of each run, which is told the number of its turn.

    On the CPU that is processor time, which neighbours on the machine hardly change; on a GPU the time until the device
    has done all.
    """
    times: dict[str, list[float]] = {what: [] for what in runs}
    for turn in range(warm_up + rounds):
        for what, run in runs.items():
            before = _now(device)
            run(turn)
            times[what].append(_now(device) - before)
    return {what: statistics.median(own[warm_up:]) * 1e3 for what, own in times.items()}


def _now(device: Device) -> float:
    """Seconds, when everything so far is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
