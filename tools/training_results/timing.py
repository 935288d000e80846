"""Times of runs that take turns, on the processor or on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from reuse_compiler.verification.timing import interleave
from tools.training_results.results import Device


def median_times(
    runs: Mapping[str, Callable[[], object]], rounds: int, warm_up: int, device: Device
) -> dict[str, float]:
    """Returns the median milliseconds of each run.

    On the CPU that is processor time, which neighbours on the machine hardly change; on a GPU the time until the device
    has done all.
    """
    samples = interleave(runs, warm_up + rounds, clock=time.process_time if device == "cpu" else _device_clock)
    return {what: statistics.median(own[warm_up:]) for what, own in samples.items()}


def _device_clock() -> float:
    """Seconds, when the device has done everything so far."""
    torch.cuda.synchronize()
    return time.perf_counter()
