"""Pages of results in Markdown, from templates that stand beside what measures them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reuse_compiler.reports.page import render

COLUMNS = 110
"""The last column of a line of prose in this project's documentation."""


def page(template: Path, **values: Any) -> str:
    """Returns a page; its template knows the values, `table` and `row`, and `paragraph` of what a `call` block has."""
    return render(template, table=table, row=row, paragraph=lambda caller: paragraph(caller()), **values)


def write_page(path: Path, template: Path, **values: Any) -> Path:
    """Writes a page; returns the path."""
    path.write_text(page(template, **values), encoding="utf-8")
    return path


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table in Markdown."""
    head = list(head)
    return "\n".join(map(row, [head, ["---"] * len(head), *rows]))


def row(cells: Iterable[str]) -> str:
    """Returns a row of one."""
    return f"| {' | '.join(cells)} |"


def paragraph(text: str, indent: str = "") -> str:
    """Returns one paragraph in lines that end by column 110, those after the first one indented."""
    return textwrap.fill(text, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
