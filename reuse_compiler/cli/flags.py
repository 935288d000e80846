"""Flags of several commands that are no part of what a library function takes as options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reuse_compiler.cli.command import LogLevel
from reuse_compiler.flags import Flag, Panel

WRITE = Panel("Result and messages", 5)

Labels = Annotated[
    Path | None,
    Flag(
        "The samples' classes, in their order: .npy, .npz, .txt or .csv (last column; for photos also "
        "file name,label).",
        metavar="FILE",
    ),
]
Overwrite = Annotated[bool, WRITE, Flag("Replace files that exist.")]
Logging = Annotated[
    LogLevel, WRITE, Flag("What to tell on stderr; debug: also where an error arose.", name="--log-level")
]


def _print_version(wanted: bool) -> None:
    """Prints the versions of everything that a result depends on, and ends the program."""
    if wanted:
        from reuse_compiler.environment import versions

        typer.echo("\n".join(f"{name} {version}" for name, version in versions().items()))
        raise typer.Exit()


def _print_environment(wanted: bool) -> None:
    """Prints all that a report of a defect should say of this machine, and ends the program."""
    if wanted:
        from reuse_compiler.environment import env
        from reuse_compiler.reports.table import print_lines

        found = env()
        rows = {**found.versions, **found.model_dump(exclude={"versions"})}
        width = max(map(len, rows))
        print_lines([f"{name.replace('_', ' '):{width}}  {value}" for name, value in rows.items()], Console())
        raise typer.Exit()


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print versions and exit.")
]
Env = Annotated[
    bool,
    typer.Option(
        "--env",
        is_eager=True,
        callback=_print_environment,
        help="Print versions, processor, providers and the operator library, for reports of defects, and exit.",
    ),
]
