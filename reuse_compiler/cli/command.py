"""What every command of the project does alike: errors as a sentence, exit codes, interruption, log lines."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from reuse_compiler.errors import ConfigError, ReuseError

LogLevel = Literal["debug", "info", "warning", "error"]

FAILURE, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143

PIPE_WIDTH = 300
"""Columns of a table that goes to a file or another program: more than any needs."""

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Typer's base of all usage errors, whether it brings its own copy of click or not."""


class _Sentences:
    """For commands and groups: usage errors become a sentence on stderr and an exit code, not a box."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Runs the command; as a program (`standalone_mode`) it ends in SystemExit."""
        try:
            code = super().main(*args, **extra | {"standalone_mode": False})  # type: ignore[misc]
        except _UsageError as error:
            message = error.format_message()  # type: ignore[attr-defined]
            print_error(f"{message.rstrip('.')} (see --help)")
            code = USAGE
        if standalone_mode:
            raise SystemExit(code or 0)
        return code


class CommandGroup(_Sentences, TyperGroup):
    """Several commands behind one name."""


class Command(_Sentences, TyperCommand):
    """A command whose deliberate errors end it with a sentence and an exit code, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Calls the function behind the command."""
        try:
            return super().invoke(ctx)
        except ReuseError as error:
            print_error(str(error))
            raise typer.Exit(USAGE if isinstance(error, ConfigError) else FAILURE) from error
        except KeyboardInterrupt as error:
            print_error("interrupted, nothing was written")
            raise typer.Exit(INTERRUPTED) from error


def stderr_console() -> Console:
    """Returns a console for everything that is not the result."""
    return Console(stderr=True)


def stdout_console() -> Console:
    """Returns a console for the result; lines in a pipe are as long as they need to be (unless COLUMNS limits them)."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


def print_error(message: str) -> None:
    """Prints one sentence on stderr, in one line however long."""
    text = Text.assemble(("error: ", "bold red"), message)
    stderr_console().print(text, soft_wrap=True, highlight=False)


def end_on_sigterm() -> None:
    """Makes SIGTERM end the program in the orderly way, so that temporary files go; for programs' `main` only."""

    def end(signum: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, end)


@contextmanager
def logging_to(console: Console, level: LogLevel) -> Iterator[None]:
    """Prints the package's log messages on `console` while the context lasts."""
    logger = logging.getLogger("reuse_compiler")
    handler = _ConsoleHandler(console)
    before, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = propagate


_STYLES = {"WARNING": "bold yellow", "ERROR": "bold red"}


class _ConsoleHandler(logging.Handler):
    """Writes lines such as `warning: ...` through rich, which keeps them apart from progress bars."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one message."""
        style = _STYLES.get(record.levelname, "dim")
        text = Text.assemble((f"{record.levelname.lower()}: ", style), self.format(record))
        self._console.print(text, soft_wrap=True, highlight=False)
