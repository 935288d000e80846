"""What all commands share: errors in a sentence, exit codes, log lines."""

import io
import logging
from typing import Annotated

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from reuse_compiler.cli.command import Command, logging_to
from reuse_compiler.errors import ConfigError, LibraryError, ModelError, OutputError, ReuseError

ERRORS: dict[str, tuple[BaseException, int]] = {
    "config": (ConfigError("[red]L=0[/red] is wrong"), 2),
    "model": (ModelError("a model [1, 3]"), 1),
    "output": (OutputError("no space"), 1),
    "library": (LibraryError("no library"), 1),
    "other": (ReuseError("something"), 1),
    "interrupt": (KeyboardInterrupt(), 130),
}

app = typer.Typer(add_completion=False)


@app.command(cls=Command)
def fail(which: Annotated[str, typer.Argument()] = "", number: Annotated[int, typer.Option(min=1)] = 1) -> None:
    if which == "exit":
        raise typer.Exit(3)
    if which:
        raise ERRORS[which][0]
    typer.echo("done")


@pytest.mark.parametrize("which", ERRORS)
def test_errors_become_a_sentence_and_an_exit_code(which: str) -> None:
    error, code = ERRORS[which]
    result = CliRunner().invoke(app, [which])
    assert result.exit_code == code and result.stdout == ""
    assert result.stderr == f"error: {str(error) or 'interrupted, nothing was written'}\n"


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


def test_defects_are_not_hidden() -> None:
    result = CliRunner().invoke(app, ["no such error"])
    assert isinstance(result.exception, KeyError)


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
