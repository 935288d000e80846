"""Progress bars: drawn on a terminal, removed at the end, absent elsewhere."""

import io

import pytest
from rich.console import Console

from reuse_compiler.cli.progress import ProgressBars


def drawn(terminal: bool, fails: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100)
    with ProgressBars(console) as progress:
        progress("reading the model", 0, 0)
        for done in range(4):
            progress("comparing both models", done, 3)
        if fails:
            raise KeyboardInterrupt
    return stream.getvalue()


def test_a_terminal_shows_what_is_done_and_how_far_it_is() -> None:
    text = drawn(terminal=True)
    assert "comparing both models" in text and "3/3" in text


def test_elsewhere_nothing_is_drawn() -> None:
    assert drawn(terminal=False) == ""


def test_the_cursor_comes_back_also_after_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), ProgressBars(Console(file=stream, force_terminal=True)) as progress:
        progress("comparing both models", 0, 3)
        raise KeyboardInterrupt
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert stream.getvalue().count(hide) == stream.getvalue().count(show) == 1


def test_names_are_shown_as_they_are_and_steer_nothing() -> None:
    stream = io.StringIO()
    with ProgressBars(Console(file=stream, force_terminal=True, width=100)) as progress:
        progress("measuring [/red]\x1b[2J", 0, 3)
    assert r"measuring [/red]\x1b[2J" in stream.getvalue() and "\x1b[2J" not in stream.getvalue()
