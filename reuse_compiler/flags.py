"""What an option says of itself where it is declared: its flag, its place in the help, what it cannot be used with.

These stand in `Annotated` beside the type; `cli/from_flags.py` makes the command line of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from reuse_compiler.errors import ConfigError

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Flag:
    """How an option is given on the command line. Type, bounds, choices and default are those of the option."""

    help: str
    short: str = ""
    """As in -L; sentences call the option by it."""
    name: str = ""
    """Of a flag that is not called as its option, as in --shape."""
    metavar: str | None = None
    default: str = ""
    """In words what happens without the flag, where that is no plain value."""
    parse: Callable[[str], object] | None = None
    """Reads the text of an option that is a tuple; without, commas separate its values. Raises ValueError."""


@dataclass(frozen=True)
class Panel:
    """A part of a command's help; parts are shown by rank."""

    title: str
    rank: int


@dataclass(frozen=True)
class Conflict:
    """Marks options that cannot be used in a situation, which `words` tell: "with --config, because ..."."""

    words: str


def marks_of(field: FieldInfo, kind: type[Mark]) -> list[Mark]:
    """Returns what a field says of itself in this respect, be it alone or in a tuple of marks that several share."""
    groups = [mark if isinstance(mark, tuple) else (mark,) for mark in field.metadata]
    return [mark for group in groups for mark in group if isinstance(mark, kind)]


def flag_of(field: FieldInfo) -> Flag:
    """Returns the flag of an option. Every option has one."""
    [flag] = marks_of(field, Flag)
    return flag


def flag_name(option: str, field: FieldInfo) -> str:
    """Returns the flag of an option as sentences call it."""
    flag = flag_of(field)
    return flag.short or flag.name or long_name(option)


def long_name(option: str) -> str:
    """Returns what the flag of an option is called unless it says otherwise."""
    return "--" + option.replace("_", "-")


def refuse(options: BaseModel, conflict: Conflict) -> None:
    """Raises ConfigError if options with that mark are not as they are by default."""
    given = [
        flag_name(name, field)
        for name, field in type(options).model_fields.items()
        if conflict in marks_of(field, Conflict)
        and getattr(options, name) != field.get_default(call_default_factory=True)
    ]
    if given:
        raise ConfigError(f"{' and '.join(given)} cannot be used {conflict.words}")
