"""From flags to options: what several commands read alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import typer
from pydantic import BaseModel, ValidationError

from reuse_compiler.errors import ConfigError
from reuse_compiler.reuse.config import describe_validation_error

Options = TypeVar("Options", bound=BaseModel)


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Reads `name:1,3,224,224`; the name may have colons."""
    name, _, sizes = text.rpartition(":")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not name or not shape or min(shape) < 1:
        raise typer.BadParameter(f"'{text}' is not NAME:SIZES, as in images:1,3,224,224", param_hint="'--shape'")
    return name, shape


def parse_shapes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    """Reads all values of --shape; one per input."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in map(parse_shape, texts):
        if shapes.setdefault(name, shape) != shape:
            raise typer.BadParameter(f"two different shapes for the input '{name}'", param_hint="'--shape'")
    return shapes


def make_options(kind: type[Options], flags: Mapping[str, str], **values: object) -> Options:
    """Builds options; a value that they refuse becomes a ConfigError that names the flag.

    `flags` gives those that are not called as the option they set.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        flag = flags.get(field, "--" + field.replace("_", "-"))
        raise ConfigError(f"{flag}: {describe_validation_error(error).removeprefix(f'{field}: ')}") from error


def print_version(wanted: bool) -> None:
    """Prints the versions of everything that a result depends on, and ends the program."""
    if wanted:
        from reuse_compiler.compiler import versions

        typer.echo("\n".join(f"{name} {version}" for name, version in versions().items()))
        raise typer.Exit()
