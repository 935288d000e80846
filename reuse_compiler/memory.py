"""Memory that was freed, and that the C library keeps for later: how to give it back to the system."""

from __future__ import annotations

import ctypes


def give_back_freed() -> None:
    """Has glibc give freed memory back, of which it keeps what lies between blocks in use; nothing elsewhere."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # musl and macOS have no such function, Windows has no handle None
        return
