"""What every command of the project does alike: errors as a sentence, exit codes, interruption, log lines."""

from __future__ import annotations

import errno
import logging
import os
import reprlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from reuse_compiler.calibration.user_code import describe_exception
from reuse_compiler.cli.programs import Terminated, end_in_peace, end_on_signals
from reuse_compiler.errors import ConfigError, ReuseError
from reuse_compiler.reports.printable import printable

LogLevel = Literal["debug", "info", "warning", "error"]

FAILURE, USAGE, NO_GAIN, BUDGET_BROKEN, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 130, 143

PIPE_WIDTH = 300
"""Columns of a table that goes to a file or another program: more than any needs."""

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Typer's base of all usage errors, whether it brings its own copy of click or not."""


class _Sentences:
    """For commands and groups: whatever ends them is a sentence on stderr and an exit code, no box and no traceback."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Runs the command; as a program (`standalone_mode`) it ends in SystemExit."""
        try:
            code = super().main(*args, **extra | {"standalone_mode": False})  # type: ignore[misc]
            sys.stdout.flush()
        except BaseException as error:
            code = _end(error, {})
        _let_go_of_stdout()
        if standalone_mode:
            raise SystemExit(code or 0)
        return code

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Writes the help, in which flags have no value, and a flag and its opposite are one word.

        A column of its own for the opposites would take the room of the text.
        """
        parameters = self.get_params(ctx)  # type: ignore[attr-defined]
        for flag in parameters:
            if getattr(flag, "is_flag", False):
                flag.metavar = ""
        pairs = [(each, each.opts, each.secondary_opts) for each in parameters if each.secondary_opts]
        try:
            for flag, (name, *_), _ in pairs:
                flag.opts, flag.secondary_opts = [f"--[no-]{name.removeprefix('--')}"], []
            super().format_help(ctx, formatter)  # type: ignore[misc]
        finally:
            for flag, *names in pairs:
                flag.opts, flag.secondary_opts = names


class CommandGroup(_Sentences, TyperGroup):
    """Several commands behind one name."""


class Command(_Sentences, TyperCommand):
    """A command; with `--log-level debug`, if it has that, a traceback comes before the sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Calls the function behind the command."""
        try:
            return super().invoke(ctx)
        except (_UsageError, typer.Exit):
            raise
        except BaseException as error:
            raise typer.Exit(_end(error, ctx.params)) from error


def _end(error: BaseException, parameters: Mapping[str, Any]) -> int:
    """Says on stderr what ended a command that was given these parameters, and returns the exit code."""
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        error = error.__context__  # rich has made a SystemExit of it
    if isinstance(error, Terminated):
        return TERMINATED
    if isinstance(error, KeyboardInterrupt):
        sentence = "interrupted, nothing was written"
    else:
        sentence = _sentence(error) or f"unexpected {describe_exception(error)}; {_advice(parameters)}"
    with suppress(OSError, SystemExit):  # of a stderr that is closed, where nothing can be said any more
        if parameters.get("log_level") == "debug":
            _print_traceback(error)
        print_error(sentence)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return USAGE if isinstance(error, ConfigError | _UsageError) else FAILURE


def _sentence(error: BaseException) -> str | None:
    """Returns what an error means to the user; None for one that should not have come up."""
    match error:
        case ReuseError():
            return str(error)
        case _UsageError():
            text = error.format_message().rstrip(".")  # type: ignore[attr-defined]
            return f"{text.replace(': Value error, ', ': ', 1)} (see --help)"  # so pydantic calls a ValueError
        case SystemExit(code=str(message)):
            return message.removeprefix("error: ")
        case BrokenPipeError():
            return "the output was not read to its end: the program that it went to has closed the pipe"
        case OSError():
            return _system_error(error)
        case MemoryError():
            text = f" ({error})" if str(error) else ""
            return f"there is not enough memory{text}: give smaller inputs, a smaller batch or fewer samples"
        case RecursionError():
            return f"something is nested too deeply: {describe_exception(error)}; give a simpler model or file"
        case UnicodeDecodeError():
            text = reprlib.repr(error.object)
            return f"{text} is not UTF-8, as names and other texts of a model must be: rename what is called so"
        case _:
            return None


def _system_error(error: OSError) -> str:
    """Returns a sentence about what the system refused, with the file."""
    if error.strerror is None:
        return f"unexpected {describe_exception(error)}"
    named = isinstance(error.filename, str | bytes)
    what = f"'{os.fsdecode(error.filename)}' cannot be read or written" if named else "the output cannot be written"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{what}: {error.strerror}{'; make room, or write elsewhere' if full else ''}"


def _advice(parameters: Mapping[str, Any]) -> str:
    how = " with what --log-level debug prints" if "log_level" in parameters else ""
    return f"this is a defect of reuse-compiler, or of a package that it uses: please report it{how}"


def _print_traceback(error: BaseException) -> None:
    lines = "".join(traceback.format_exception(error)).splitlines()
    stderr_console().print(Text("\n".join(map(printable, lines))), soft_wrap=True, highlight=False)


def _let_go_of_stdout() -> None:
    """Sees to it that Python does not complain at its end about output that nobody takes."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_program(app: typer.Typer, name: str) -> None:
    """Runs a command as a program of its own; for its `main`."""
    end_on_signals()
    if sys.stdout is None or sys.stderr is None:  # closed by who started the program, as with `>&-`
        nowhere = Path(os.devnull).open("w")  # noqa: SIM115 (as long as the program runs)
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a name may not suit the encoding
    try:
        app(prog_name=name)
    finally:
        end_in_peace()


def run_command(function: Callable[..., None], name: str) -> None:
    """Runs a function with Typer's parameters, or one `with_flags`, as a program of its own."""
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    app.command(cls=Command)(function)
    run_program(app, name)


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
    text = Text.assemble(("error: ", "bold red"), printable(message))
    stderr_console().print(text, soft_wrap=True, highlight=False)


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
        text = Text.assemble((f"{record.levelname.lower()}: ", style), printable(self.format(record)))
        self._console.print(text, soft_wrap=True, highlight=False)
