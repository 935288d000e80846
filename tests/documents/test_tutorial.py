"""The blocks of docs/tutorial.md, one after another in one session, print what the page says that they do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.documents.blocks import blocks, run
from tools.cpp_build import ROOT

TOLERANCE = 0.1
"""Of numbers, which rounding changes a little from one instruction set to another."""


def difference(shown: str, printed: str) -> str | None:
    """Returns what of a text on a page was not printed, or was printed besides; None if they are the same.

    Dots stand for any word, a line of dots for any lines, and a number for those close to it.
    """
    found, place = printed.rstrip("\n").split("\n"), 0
    for part in shown.rstrip("\n").removesuffix("\n...").split("\n...\n"):
        lines = part.split("\n")
        starts = range(place, len(found) - len(lines) + 1) if place else [0]
        start = next((start for start in starts if same_lines(lines, found[start:])), None)
        if start is None:
            return f"not printed:\n{part}"
        place = start + len(lines)
    more = "" if shown.endswith("\n...\n") else "\n".join(found[place:])
    return f"printed besides:\n{more}" if more else None


def same_lines(shown: list[str], printed: list[str]) -> bool:
    return len(shown) <= len(printed) and all(map(same_line, shown, printed))


def same_line(shown: str, printed: str) -> bool:
    expected, found = shown.split(), printed.split()
    return len(expected) == len(found) and all(map(same_word, expected, found))


def same_word(shown: str, printed: str) -> bool:
    if "..." in shown:
        beginning, _, end = shown.partition("...")
        return printed.startswith(beginning) and printed.endswith(end)
    try:
        return math.isclose(float(shown.rstrip(",:;%")), float(printed.rstrip(",:;%")), rel_tol=TOLERANCE)
    except ValueError:
        return shown == printed


def test_the_blocks_print_what_is_shown(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    found = blocks(ROOT / "docs" / "tutorial.md")
    assert sum(block.shown is not None for block in found) > 5
    for block in found:
        printed = run(block, tmp_path, names)
        differs = difference(block.shown, printed) if block.shown is not None else None
        assert differs is None, f"{differs}:\n{block.code}\n{printed}"


SHOWN = """layer  r_c   ms
conv   0.19  ...
...
took ... s
written
"""


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("layer r_c ms\nconv 0.185 5\nand more\n\ntook 1.5 s\nwritten\n", True),
        ("layer r_c ms\nconv 0.19 5\ntook 1.5 s\nwritten\n", True),
        ("layer r_c ms\nconv 0.29 5\ntook 1.5 s\nwritten\n", False),
        ("layer r_c ms\nconv2 0.19 5\ntook 1.5 s\nwritten\n", False),
        ("layer r_c ms\nconv 0.19\ntook 1.5 s\nwritten\n", False),
        ("first\nlayer r_c ms\nconv 0.19 5\ntook 1.5 s\nwritten\n", False),
        ("layer r_c ms\nconv 0.19 5\ntook 1.5 s\nand\nwritten\n", False),
        ("layer r_c ms\nconv 0.19 5\ntook 1.5 s\nwritten\nand more\n", False),
        ("layer r_c ms\nconv 0.19 5\ntook 1.5 s\n", False),
        ("", False),
    ],
)
def test_what_differs_is_found(printed: str, same: bool) -> None:
    assert (difference(SHOWN, printed) is None) == same
    assert (difference(f"{SHOWN}...\n", printed) is None) == (same or "written\nand more" in printed)
