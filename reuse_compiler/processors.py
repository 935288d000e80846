"""How many of the machine's processors a piece of work may use: all, unless it is told to leave some to others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_share: ContextVar[int | None] = ContextVar("share of the processors", default=None)


def processors() -> int:
    """Returns how many threads this thread's work may use."""
    return _share.get() or os.cpu_count() or 1


@contextmanager
def use_processors(count: int) -> Iterator[None]:
    """Makes `count` what this thread, and no other one, may use meanwhile."""
    token = _share.set(count)
    try:
        yield
    finally:
        _share.reset(token)
