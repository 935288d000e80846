"""Tables on consoles of any width: nothing is lost, numbers stay whole, and no line sticks out."""

import io
import math

import pytest
from rich.console import Console

from reuse_compiler.report import LayerReport
from reuse_compiler.reports.table import Row, number, numbers, print_layers, print_lines, print_table, speed, words

COLUMNS = [*words("layer", "setting"), *numbers("dense ms", "output error", "r_c")]
ROWS = [
    Row(["conv[1]", "L=8, 256 clusters per block, int8 tables", "33.014", "3.6e-07", "0.05"]),
    Row(["/backbone/stages.0/blocks.0/Conv", "L=64", "37.142", "-", ""], "dim"),
    Row(["conv3", "skipped: one processor"]),
]


def printed(width: int | None) -> list[str]:
    """Returns the lines on a terminal of that width, in a pipe for None."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=width is not None, width=width or 80, color_system=None)
    print_table(COLUMNS, ROWS, console)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.mark.parametrize("width", [None, 200])
def test_where_there_is_room_each_row_is_a_line(width: int | None) -> None:
    header, first, second, third = printed(width)
    assert header.split() == ["layer", "setting", "dense", "ms", "output", "error", "r_c"]
    assert first.startswith("conv[1] ") and first.split()[-3:] == ["33.014", "3.6e-07", "0.05"]
    assert second.split() == ["/backbone/stages.0/blocks.0/Conv", "L=64", "37.142", "-"]
    assert third.split("  ")[0] == "conv3" and third.endswith("skipped: one processor")
    assert header.index("ms") + 2 == first.index("33.014") + 6, "numbers stand at the right"


def test_a_narrower_terminal_breaks_headings_before_it_folds_words() -> None:
    whole = max(map(len, printed(None)))
    broken = printed(whole - 1)
    assert [line.split() for line in broken[:2]] == [["dense", "output"], ["layer", "setting", "ms", "error", "r_c"]]
    assert len(broken) == 2 + len(ROWS)
    folded = printed(70)
    assert len(folded) > len(broken) and max(map(len, folded)) <= 70
    assert all(any(cell in line for line in folded) for cell in ("33.014", "3.6e-07", "37.142"))


def test_where_words_would_be_torn_rows_are_paragraphs_that_name_their_numbers() -> None:
    lines = printed(44)
    assert max(map(len, lines)) <= 44
    text = " ".join(" ".join(lines).split())
    assert "conv[1] L=8, 256 clusters per block, int8 tables dense ms 33.014 output error 3.6e-07 r_c 0.05" in text
    assert text.endswith("L=64 dense ms 37.142 conv3 skipped: one processor"), "what is not known is left out"


def test_columns_limit_a_pipe_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, printed(None))) <= 80


def test_a_table_may_have_no_rows() -> None:
    stream = io.StringIO()
    print_table(COLUMNS, [], Console(file=stream, color_system=None))
    assert stream.getvalue().split() == ["layer", "setting", "dense", "ms", "output", "error", "r_c"]


def test_times_that_differ_as_those_of_equal_runs_do_are_called_so() -> None:
    words = [speed(10.0, reuse, 2).partition(": ")[2] for reuse in (10.2, 9.8, 10.4, 9.6)]
    assert words == [
        "1.02 times as slow (within the noise), 2 threads",
        "1.02 times as fast (within the noise), 2 threads",
        "1.04 times as slow, 2 threads",
        "1.04 times as fast, 2 threads",
    ]


def test_numbers() -> None:
    assert [number(n) for n in (None, 7, 0.0, 1.0, 0.123, 1e-7, 9.96, 123.4, math.inf)] == [
        "-", "7", "0", "1", "0.12", "1e-07", "10", "123", "inf"
    ]  # fmt: skip


def test_names_cannot_steer_the_terminal() -> None:
    hostile, shown = "conv\x1b[2J\x9b31m\r\n", r"conv\x1b[2J\x9b31m\r\n"
    layer = LayerReport(name=hostile, decision="dense", reason=f"'{hostile}' is a graph input")
    for width in (40, 100, 200):
        stream = io.StringIO()
        console = Console(file=stream, width=width, force_terminal=True, color_system=None)
        print_layers(words("layer"), [layer], lambda each: [each.name], console)
        print_lines([f"written to {hostile}"], console)
        text = stream.getvalue()
        assert shown in text and not {"\x1b", "\x9b", "\r"} & set(text)
