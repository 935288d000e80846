"""What both papers have, piece by piece, and what became of it here: read from entries.toml.

Numbers of ours are drawn from docs/results: {file[key][key]}, where elements of lists that have a name go by it
(page.py). What a file does not have as it is stands in {drawn[...]}.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from reuse_compiler.report import Report

Text = Annotated[str, AfterValidator(lambda text: " ".join(text.split()))]
"""The file has it in lines of any length."""


class Entry(Report):
    """A table, figure, equation, policy or algorithm."""

    item: Text
    says: Text
    ours: Text
    where: tuple[str, ...]
    """Files, and functions of theirs as FILE::NAME: modules first, then tests."""
    command: Text = ""


class Paper(Report):
    """One of the papers."""

    title: str
    words: str
    entries: tuple[Entry, ...]


PAPERS = [Paper(**own) for own in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["papers"]]
