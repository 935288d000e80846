"""Checks that go wrong in every way for odd cases: what the fuzzers' harness is tested with.

They stand apart from the tests, as every worker imports the file that its check stands in.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np

from tools.fuzz.worker import MEMORY

Rng = np.random.Generator


def is_odd(rng: Rng) -> bool:
    return bool(rng.integers(1000) % 2)


def fails(rng: Rng, folder: Path) -> None:
    (folder / "input").write_text("odd" if is_odd(rng) else "even")
    print("about to look")
    assert (folder / "input").read_text() != "odd", "it is odd"


def crashes(rng: Rng, folder: Path) -> None:
    (folder / "input").write_text("odd")
    if is_odd(rng):
        print("about to crash", flush=True)
        os.abort()


def hangs(rng: Rng, folder: Path) -> None:
    (folder / "input").write_text("odd")
    odd = is_odd(rng)
    while odd:
        pass


def waits(rng: Rng, folder: Path) -> None:
    threading.Event().wait()


def takes_memory(rng: Rng, folder: Path) -> None:
    (folder / "input").write_text("odd")
    np.zeros(2 * MEMORY if is_odd(rng) else 1, np.uint8)
