"""The environment as lines of name and value, which a report of a defect begins with."""

from __future__ import annotations

from rich.console import Console

from reuse_compiler.environment import Environment
from reuse_compiler.reports.table import print_lines


def print_environment(environment: Environment, console: Console) -> None:
    """Prints a line for each value, however long, so that it can be copied."""
    rows = {**environment.versions, **environment.model_dump(exclude={"versions"})}
    width = max(map(len, rows))
    print_lines([f"{name.replace('_', ' '):{width}}  {value}" for name, value in rows.items()], console)
