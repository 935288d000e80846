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
    """Returns how a text differs from what a page shows, where dots stand for any word; None if it does not."""
    expected, found = shown.split(), printed.split()
    for words in zip(expected, found, strict=False):
        if not same_word(*words):
            return f"'{words[0]}' is shown, '{words[1]}' was printed"
    return None if len(expected) == len(found) else f"{len(expected)} words are shown, {len(found)} were printed"


def same_word(shown: str, printed: str) -> bool:
    if "..." in shown:
        beginning, _, end = shown.partition("...")
        return printed.startswith(beginning) and printed.endswith(end)
    try:
        return math.isclose(float(shown.rstrip(",:;")), float(printed.rstrip(",:;")), rel_tol=TOLERANCE)
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


@pytest.mark.parametrize(
    ("printed", "same"),
    [
        ("took 12.5 ms on (3, 4) at 0.19", True),
        ("took 7 ms on (3, 4) at 0.185", True),
        ("took 7 ms on (3, 4) at 0.29", False),
        ("took 7 ms on (3, 5) at 0.19", False),
        ("took 7 ms on (3, 4)", False),
        ("took 7 s on (3, 4) at 0.19", False),
    ],
)
def test_words_and_numbers_that_differ_are_found(printed: str, same: bool) -> None:
    assert (difference("took ... ms on (3, 4) at 0.19", printed) is None) == same
