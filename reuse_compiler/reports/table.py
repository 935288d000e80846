"""Tables for people, on terminals of any width and in pipes, and the numbers in them. Every table printed is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reuse_compiler.reports.printable import printable
from reuse_compiler.verification.timing import NOISE, ms_words

FOLDED = 12
"""Characters that a folded column of words is left with at least; where that is too wide still, rows are paragraphs."""
GAP = 2
"""Spaces between columns."""
UNLIMITED = 10_000
RATIO = "r_c"
"""The column, and in reasons the word, that LEGEND explains."""
LEGEND = (
    "r_c: clusters per row of the unfolded input, or the share of the multiplications that is left "
    "(above 1 where a layer has fewer output than input pixels)"
)


class Column(NamedTuple):
    """A column of words, which may be folded, or of numbers, which stand at the right and are never broken."""

    name: str
    numeric: bool = False


class Row(NamedTuple):
    """Cells, as plain text (those that are missing at the end are empty), and rich's style for all of them."""

    cells: Sequence[str]
    style: str = ""


def words(*names: str) -> list[Column]:
    """Returns columns of words."""
    return [Column(name) for name in names]


def numbers(*names: str) -> list[Column]:
    """Returns columns of numbers."""
    return [Column(name, numeric=True) for name in names]


def print_table(columns: Sequence[Column], rows: Iterable[Row], console: Console) -> None:
    """Prints a table; a pipe gets lines as long as they need to be (unless COLUMNS says otherwise).

    Where the console is too narrow for it, headings are broken and words folded; where that is not enough, each row
    becomes a paragraph.
    """
    rows = [row._replace(cells=[*map(printable, row.cells)]) for row in rows]
    table = _table(columns, rows)
    width = _width(table, console)
    if not _limited(console):
        console.width = width
    elif width > console.width:
        broken = [column._replace(name=column.name.replace(" ", "\n")) for column in columns]
        if _least_width(broken, rows) > console.width:
            _print_paragraphs(columns, rows, console)
            return
        table = _table(broken, rows)
    console.print(table)


class Layer(Protocol):
    """A convolution that a report decides about."""

    name: str
    reason: str

    @property
    def decision(self) -> str: ...


AnyLayer = TypeVar("AnyLayer", bound=Layer)


def print_layers(
    columns: Sequence[Column], layers: Sequence[AnyLayer], cells: Callable[[AnyLayer], Sequence[str]], console: Console
) -> None:
    """Prints a row per convolution: its cells and the reason of the decision; nothing without any.

    In a terminal where that is too wide for a line, and in a pipe, whose lines are read in logs and mails, the reasons
    of the layers that stay dense follow the table instead, each once.
    """
    if not layers:
        return
    rows = [Row(cells(layer), "" if layer.decision == "reuse" else "dim") for layer in layers]
    full = [row._replace(cells=[*row.cells, layer.reason]) for row, layer in zip(rows, layers, strict=True)]
    with_reasons = [*columns, Column("reason")]
    if _limited(console) and _width(_table(with_reasons, full), console) <= console.width:
        print_table(with_reasons, full, console)
    else:
        print_table(columns, rows, console)
        _print_reasons(layers, console)
    ratios = [row.cells[index] for row in rows for index, column in enumerate(columns) if column.name == RATIO]
    if set(ratios) - {"-"} or any(RATIO in layer.reason for layer in layers):
        console.print(Text(f"\n{LEGEND}", "dim"), soft_wrap=not _limited(console))


def _print_reasons(layers: Sequence[Layer], console: Console) -> None:
    """Prints why layers stay dense, each reason once."""
    dense: dict[str, list[str]] = {}
    for layer in layers:
        if layer.decision == "dense":
            dense.setdefault(layer.reason, []).append(layer.name)
    if dense:
        console.print("\nWhy layers stay dense:", style="bold")
    for reason, names in dense.items():
        words = Text.assemble((printable(", ".join(names)), "bold"), f": {printable(reason)}")
        console.print(words, soft_wrap=not _limited(console))


def print_lines(lines: Iterable[str], console: Console, style: str = "") -> None:
    """Prints lines as they are, however long."""
    for line in lines:
        console.print(Text(printable(line), style), soft_wrap=True)


def number(value: float | int | None) -> str:
    """Returns a number with two significant digits, or whole if it has more before the point; None as a dash."""
    if value is None:
        return "-"
    return f"{value:.2g}" if abs(value) < 10 and isinstance(value, float) else f"{value:.0f}"


def ratio_words(dense: float, reuse: float) -> str:
    """Returns how much faster or slower reuse is."""
    return f"{dense / reuse:.2f} times as fast" if reuse <= dense else f"{reuse / dense:.2f} times as slow"


def speed(dense: float, reuse: float, threads: int | None) -> str:
    """Returns both times in words, with their ratio, and whether equal runs differ as much."""
    ratio = ratio_words(dense, reuse) + (" (within the noise)" if abs(reuse - dense) <= NOISE * dense else "")
    times = f"{ms_words(dense)} ms before, {ms_words(reuse)} ms after"
    return f"{times}: {ratio}, {threads} thread{'' if threads == 1 else 's'}"


def _limited(console: Console) -> bool:
    return console.is_terminal or "COLUMNS" in os.environ


def _table(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for column in columns:
        table.add_column(
            column.name,
            justify="right" if column.numeric else "left",
            vertical="top",
            no_wrap=column.numeric,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(Text, row.cells), style=row.style or None)
    return table


def _width(table: Table, console: Console) -> int:
    """Returns the width of the table with nothing folded."""
    return console.measure(table, options=console.options.update(width=UNLIMITED, max_width=UNLIMITED)).maximum


def _least_width(columns: Sequence[Column], rows: Sequence[Row]) -> int:
    """Returns the width of the table with all words folded."""
    widths = []
    for index, column in enumerate(columns):
        texts = [*column.name.split("\n"), *(row.cells[index] for row in rows if index < len(row.cells))]
        longest = max(map(cell_len, texts))
        widths.append(longest if column.numeric else min(longest, FOLDED))
    return sum(widths) + GAP * (len(widths) - 1)


def _print_paragraphs(columns: Sequence[Column], rows: Sequence[Row], console: Console) -> None:
    """Prints each row's words in a line and its numbers below, with their names."""
    for row in rows:
        known = [(column, cell) for column, cell in zip(columns, row.cells, strict=False) if cell not in ("", "-")]
        console.print(Text("  ".join(cell for column, cell in known if not column.numeric), f"bold {row.style}"))
        named = [Text(f"{column.name} {cell}", row.style) for column, cell in known if column.numeric]
        console.print(Padding(Columns(named, padding=(0, GAP), equal=True), (0, 0, 0, GAP)))
