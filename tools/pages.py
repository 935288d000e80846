"""Pages of results in Markdown, from templates that stand beside what measures them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reuse_compiler.reports.page import render


def write_page(path: Path, template: Path, **values: Any) -> Path:
    """Writes a page; its template knows the values, and `table`. Returns the path."""
    path.write_text(render(template, table=table, **values), encoding="utf-8")
    return path


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table in Markdown."""
    head = list(head)
    return "\n".join(map(row, [head, ["---"] * len(head), *rows]))


def row(cells: Iterable[str]) -> str:
    """Returns a row of one."""
    return f"| {' | '.join(cells)} |"
