"""Progress: bars on a terminal, removed at the end; elsewhere a plain line now and then."""

import io
import re
import threading

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


def test_elsewhere_nothing_is_drawn_of_short_work() -> None:
    assert drawn(terminal=False) == ""


class Watched(io.StringIO):
    """A stream that says when work was told of in so many lines, so that tests wait for no time in particular."""

    def __init__(self, work: str, lines: int) -> None:
        super().__init__()
        self._work, self._lines, self.full = work, lines, threading.Event()

    def flush(self) -> None:
        super().flush()
        if self.getvalue().count(f"progress: {self._work}") >= self._lines:
            self.full.set()


def lines_of(console: Console, stream: Watched, what: str, total: int) -> list[str]:
    with ProgressBars(console) as progress:
        progress(what, 2, total)
        assert stream.full.wait(60)
    return [line for line in stream.getvalue().splitlines() if "starting" not in line]


@pytest.mark.parametrize("terminal", [None, "dumb"])
def test_elsewhere_a_plain_line_tells_of_long_work(terminal: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reuse_compiler.cli.progress.SECONDS", 0.001)
    if terminal is not None:
        monkeypatch.setenv("TERM", terminal)
    stream = Watched("measuring", lines=2)
    console = Console(file=stream, force_terminal=terminal is not None, width=20)
    first, second, *_ = lines_of(console, stream, "measuring [/red]\x1b[2J, layer by layer", 64)
    line = re.escape(r"progress: measuring [/red]\x1b[2J, layer by layer, 2 of 64")
    line += r", about \d+ s left \(\d+ s\)"
    assert re.fullmatch(line, first) and re.fullmatch(line, second)
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()


def test_of_work_without_steps_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reuse_compiler.cli.progress.SECONDS", 0.001)
    stream = Watched("reading", lines=1)
    assert lines_of(Console(file=stream), stream, "reading the model", 0)[0].startswith("progress: reading the model (")


def test_a_stderr_that_nobody_reads_ends_the_lines_and_not_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        called = threading.Event()

        def write(self, text: str) -> int:
            self.called.set()
            raise BrokenPipeError

    monkeypatch.setattr("reuse_compiler.cli.progress.SECONDS", 0.001)
    with ProgressBars(Console(file=Closed())) as progress:
        progress("comparing both models", 0, 3)
        assert Closed.called.wait(60)
        progress("comparing both models", 1, 3)


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
