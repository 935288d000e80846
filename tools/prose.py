"""Paragraphs of the pages in docs/results that tools write."""

from __future__ import annotations

import textwrap

COLUMNS = 110
"""The last column of a line of prose in this project's documentation."""


def paragraph(text: str, indent: str = "") -> str:
    """Returns one paragraph in lines that end by column 110, those after the first one indented."""
    return textwrap.fill(text, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
