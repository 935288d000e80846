"""Where the time of long work went: what progress tells, added up."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from reuse_compiler.progress import ProgressCallback

NUMBERED = re.compile(r" \d+(?=:)")
"""The number of a piece of work: `trial 3: fitting` is added to `trial: fitting`."""


class Ledger:
    """A `ProgressCallback` that passes on what it is told, and adds up the seconds of each kind of work.

    The time until the next call belongs to the work that the last one named.
    """

    def __init__(self, progress: ProgressCallback, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress, self._clock = progress, clock
        self._seconds: dict[str, float] = {}
        self._kind: str | None = None
        self._since = clock()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Begins, or goes on with, the work `what`."""
        self._close()
        self._kind = NUMBERED.sub("", what)
        self._progress(what, done, total)

    def seconds(self) -> dict[str, float]:
        """Returns the seconds by kind of work, in the order in which they began."""
        self._close()
        return dict(self._seconds)

    def _close(self) -> None:
        now = self._clock()
        if self._kind is not None:
            self._seconds[self._kind] = self._seconds.get(self._kind, 0.0) + now - self._since
        self._since = now
