"""The time of the whole check, and how much of it a part may take: what one leaves over, later ones have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from tools.gpu_check.parts import Part

SECONDS, SECONDS_WITH_OPTIONAL = 300, 540
"""For everything, unless the command line says another number."""


class Deadline:
    """When the check must be over."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        return self._end - self._clock()


def limit_of(part: Part, later: Iterable[Part], left: float) -> int | None:
    """Returns the seconds that a part may take of those that are left, or None if they are not worth starting it.

    What the later parts need at least is kept for them, but never at the cost of what this one needs at least.
    """
    if left < part.least:
        return None
    kept = sum(each.least for each in later)
    return int(min(part.most, max(part.least, left - kept)))


def slowest(parts: Sequence[Part], seconds: float) -> list[tuple[float, int | None]]:
    """Returns start and limit of every part if all take as long as they may."""
    left, found = seconds, []
    for index, part in enumerate(parts):
        limit = limit_of(part, parts[index + 1 :], left)
        found.append((seconds - left, limit))
        left -= limit or 0
    return found
