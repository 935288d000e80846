"""Pages of results in Markdown, from templates that stand beside what measures them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reuse_compiler.reports.page import render
from tools.prose import paragraph


def write_page(path: Path, template: Path, **values: Any) -> Path:
    """Writes a page; its template knows the values, `table` and `paragraph`. Returns the path."""
    path.write_text(render(template, table=table, paragraph=_block, **values), encoding="utf-8")
    return path


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table in Markdown."""
    head = list(head)
    return "\n".join(map(row, [head, ["---"] * len(head), *rows]))


def row(cells: Iterable[str]) -> str:
    """Returns a row of one."""
    return f"| {' | '.join(cells)} |"


def _block(caller: Callable[[], str]) -> str:
    """Returns what stands in a `call` block of a template as one paragraph."""
    return paragraph(caller())
