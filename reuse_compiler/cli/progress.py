"""How far the work is: bars on a terminal; elsewhere, as in a pipe or a file, a plain line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from reuse_compiler.cli.command import LogLevel, logging_to, stderr_console
from reuse_compiler.reports.printable import printable

SECONDS = 10.0
"""From one plain line to the next."""


class ProgressBars:
    """A `ProgressCallback` that draws one bar per kind of work, and removes them when done.

    Where no bar can be drawn, the work that is going on is told every SECONDS, from a thread: some steps take minutes.
    """

    def __init__(self, console: Console) -> None:
        draws = console.is_terminal and not console.is_dumb_terminal
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),  # names of layers may look like markup
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not draws,
        )
        self._task: TaskID | None = None
        self._what, self._console, self._line = "", console, "starting"
        self._begun = time.monotonic()
        self._started, self._ended = time.monotonic(), threading.Event()
        self._lines = None if draws else threading.Thread(target=self._tell, args=(SECONDS,), daemon=True)

    def __enter__(self) -> ProgressBars:
        self._progress.start()
        if self._lines is not None:
            self._lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._lines is not None:
            self._lines.join()
        self._progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Shows how far the work `what` is; other work replaces its bar."""
        if self._task is None or what != self._what:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task, self._what = self._progress.add_task(printable(what), total=None), what
            self._begun = time.monotonic()
        self._progress.update(self._task, completed=done, total=total or None)
        self._line = f"{printable(what)}{f', {done} of {total}{self._left(done, total)}' if total else ''}"

    def _left(self, done: int, total: int) -> str:
        """Returns the time that the rest of the work takes at the pace so far; nothing before there is one."""
        if not 0 < done < total:
            return ""
        seconds = (time.monotonic() - self._begun) / done * (total - done)
        return f", about {max(1, round(seconds))} s left"

    def _tell(self, seconds: float) -> None:
        """Writes a line every so many seconds until the work ends.

        Not through rich, which would close stdout, too, where nobody reads stderr any more.
        """
        with suppress(OSError, ValueError):
            while not self._ended.wait(seconds):
                took = f"{time.monotonic() - self._started:.0f} s"
                self._console.file.write(f"progress: {self._line} ({took})\n")
                self._console.file.flush()


@contextmanager
def working(log_level: LogLevel = "warning") -> Iterator[ProgressBars]:
    """Tells on stderr what goes on while the context lasts: messages of this level, and how far the work is."""
    console = stderr_console()
    with logging_to(console, log_level), ProgressBars(console) as progress:
        yield progress
