"""What all commands share: errors in a sentence, exit codes, log lines."""

import errno
import io
import logging
from typing import Annotated

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from reuse_compiler.cli.command import Command, logging_to
from reuse_compiler.errors import ConfigError, LibraryError, ModelError, OutputError, ReuseError

NOT_UTF_8 = UnicodeDecodeError("utf-8", b"conv\xff", 4, 5, "invalid start byte")
DISK_FULL = OSError(errno.ENOSPC, "No space left on device", "net.reuse.onnx")
UNEXPECTED = "this is a defect of reuse-compiler, or of a package that it uses: please report it"
ERRORS: dict[str, tuple[BaseException, int, str]] = {
    "config": (ConfigError("[red]L=0[/red] is wrong"), 2, "[red]L=0[/red] is wrong"),
    "model": (ModelError("a model [1, 3]"), 1, "a model [1, 3]"),
    "output": (OutputError("no space"), 1, "no space"),
    "library": (LibraryError("no library"), 1, "no library"),
    "other": (ReuseError("something"), 1, "something"),
    "hostile": (ModelError("layer '\x1b[2J\n\x9b31m'"), 1, r"layer '\x1b[2J\n\x9b31m'"),
    "interrupt": (KeyboardInterrupt(), 130, "interrupted, nothing was written"),
    "text": (NOT_UTF_8, 1, r"b'conv\xff' is not UTF-8, as names and other texts of a model must be"),
    "disk": (DISK_FULL, 1, "'net.reuse.onnx' cannot be read or written: No space left on device; make room"),
    "pipe": (
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        1,
        "the output was not read to its end: the program that it went to has closed the pipe",
    ),
    "memory": (MemoryError("Unable to allocate 1 TiB"), 1, "there is not enough memory (Unable to allocate 1 TiB): "),
    "depth": (RecursionError("maximum recursion depth exceeded"), 1, "something is nested too deeply: "),
    "end of input": (EOFError(), 1, "unexpected EOFError ("),
    "defect": (KeyError("x"), 1, "unexpected KeyError: 'x' (test_command.py, line "),
    "exit 0": (SystemExit(0), 1, "unexpected SystemExit: 0 ("),
    "exit 3": (SystemExit(3), 1, "unexpected SystemExit: 3 ("),
    "words": (SystemExit("error: no such network"), 1, "no such network"),
    "odd": (BaseException("of a kind of its own"), 1, "unexpected BaseException: of a kind of its own ("),
}

app = typer.Typer(add_completion=False)


@app.command(cls=Command)
def fail(
    which: Annotated[str, typer.Argument()] = "",
    number: Annotated[int, typer.Option(min=1)] = 1,
    log_level: str = "warning",
) -> None:
    if which == "exit":
        raise typer.Exit(3)
    if which:
        raise ERRORS[which][0]
    typer.echo("done")


@pytest.mark.parametrize("which", ERRORS)
def test_errors_become_a_sentence_and_an_exit_code(which: str) -> None:
    _, code, sentence = ERRORS[which]
    result = CliRunner().invoke(app, [which])
    assert result.exit_code == code and result.stdout == ""
    assert result.stderr.startswith(f"error: {sentence}")
    assert result.stderr.count("\n") == 1 and "\x1b" not in result.stderr
    with_traceback = CliRunner().invoke(app, [which, "--log-level", "debug"])
    assert with_traceback.exit_code == code
    assert with_traceback.stderr.startswith("Traceback (most recent call last):\n")
    assert with_traceback.stderr.endswith(result.stderr)


def test_an_unexpected_error_tells_where_it_was_and_what_to_do() -> None:
    assert CliRunner().invoke(app, ["defect"]).stderr.endswith(f"{UNEXPECTED} with what --log-level debug prints\n")
    other = typer.Typer(add_completion=False)

    @other.command(cls=Command)
    def has_no_levels() -> None:
        raise KeyError("x")

    assert CliRunner().invoke(other, []).stderr.endswith(f"{UNEXPECTED}\n")


def test_errors_while_flags_are_read() -> None:
    other = typer.Typer(add_completion=False)

    def fail_at_once(wanted: bool) -> None:
        raise KeyError("version")

    @other.command(cls=Command)
    def command(version: Annotated[bool, typer.Option(callback=fail_at_once)] = False) -> None:
        pass

    result = CliRunner().invoke(other, ["--version"])
    assert result.exit_code == 1 and result.stderr.startswith("error: unexpected KeyError: 'version' (")


def test_success_and_chosen_exit_codes() -> None:
    result = CliRunner().invoke(app, [])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "done\n", "")
    assert CliRunner().invoke(app, ["exit"]).exit_code == 3


@pytest.mark.parametrize("arguments", [["--number", "0"], ["--number", "x"], ["--nothing"], ["a", "b"]])
def test_wrong_usage_is_one_line(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.endswith(" (see --help)\n")
    assert result.stderr.count("\n") == 1


def test_log_lines_go_to_the_console_while_the_context_lasts() -> None:
    stream = io.StringIO()
    logger = logging.getLogger("reuse_compiler.somewhere")
    with logging_to(Console(file=stream, width=20), "info"):
        logger.debug("hidden")
        logger.info("a long line that must not be wrapped: %s", [1, 3])
        logger.warning("careful")
    logger.warning("after")
    assert stream.getvalue() == "info: a long line that must not be wrapped: [1, 3]\nwarning: careful\n"
    assert logging.getLogger("reuse_compiler").handlers == []


def test_log_lines_cannot_steer_the_terminal() -> None:
    stream = io.StringIO()
    with logging_to(Console(file=stream), "info"):
        logging.getLogger("reuse_compiler.somewhere").warning("the output '%s'", "\x1b]0;title\x07\r\u202e")
    assert stream.getvalue() == r"warning: the output '\x1b]0;title\x07\r\u202e'" + "\n"
