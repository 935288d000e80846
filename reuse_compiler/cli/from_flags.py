"""The command line that follows from options which carry a `Flag`: a parameter for each, and back to the options."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer
from annotated_types import Ge, Le
from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from reuse_compiler.errors import ConfigError
from reuse_compiler.flags import Flag, Panel, flag_name, flag_of, long_name, marks_of
from reuse_compiler.reuse.config import describe_validation_error

Options = TypeVar("Options", bound=BaseModel)


def with_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Makes a function a Typer command.

    Its parameters may be Typer's own, options (`name: Annotated[int, Flag(...)] = 1`) and models of options: each field
    of such a model is a flag, and the function gets the model, in which those are set that are given. The help shows
    them in this order, by panels.
    """
    hints = get_type_hints(function, include_extras=True)
    models: dict[str, type[BaseModel]] = {}
    fields: dict[str, FieldInfo] = {}
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            models[name] = kind = hint
        elif any(isinstance(mark, Flag) for mark in get_args(hint)):
            definition: Any = (hint, ... if parameter.default is parameter.empty else parameter.default)
            models[name] = kind = create_model(name, **{name: definition})
        else:
            parameters.append(parameter.replace(annotation=hint, kind=parameter.KEYWORD_ONLY))
            continue
        fields |= kind.model_fields
        parameters += [_parameter(each, field) for each, field in kind.model_fields.items()]

    @functools.wraps(function)
    def command(context: typer.Context, **values: Any) -> None:
        for name, kind in models.items():
            read = {each: _read(each, field, values.pop(each)) for each, field in kind.model_fields.items()}
            made = make_options(kind, {each: value for each, value in read.items() if _is_given(context, each)})
            values[name] = made if hints[name] is kind else getattr(made, name)
        function(**values)

    rank = {name: panel.rank for name, field in fields.items() for panel in marks_of(field, Panel)}
    parameters.sort(key=lambda parameter: rank.get(parameter.name, 0))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _is_given(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name != "DEFAULT"


def make_options(kind: type[Options], values: Mapping[str, object]) -> Options:
    """Builds options, None being the default; raises ConfigError for a value that they refuse, with the flag's name."""
    try:
        return kind.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        flag = flag_name(name, kind.model_fields[name])
        raise ConfigError(f"{flag}: {describe_validation_error(error).removeprefix(f'{name}: ')}") from error


def parse_shapes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    """Reads shapes such as `name:1,3,224,224` or `name:1x3x224x224`, one for each input; names may have colons."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition(":")
        try:
            shape = tuple(int(size) for size in re.split("[x,]", sizes))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1:
            raise ValueError(f"'{text}' is not NAME:SIZES, as in images:1,3,224,224")
        if shapes.setdefault(name, shape) != shape:
            raise ValueError(f"two different shapes for the input '{name}'")
    return shapes


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """Returns what Typer makes the flag of an option from."""
    flag, panels = flag_of(field), marks_of(field, Panel)
    kind = _bare(field.annotation)
    default: Any = ... if field.is_required() else field.get_default(call_default_factory=True)
    long, text, words, metavar = flag.name or long_name(name), flag.help, flag.default, flag.metavar
    bounds = {}
    if kind is bool:
        long, words = (f"{long}/--no-{long.removeprefix('--')}", words or "yes") if default else (long, words)
    elif kind is int:  # bounds of other numbers may exclude themselves, which Typer does not know
        metavar = metavar or "n"
        bounds = {"min": _bound(field, Ge), "max": _bound(field, Le)}
    elif get_origin(kind) is Literal:  # in the text, which may be broken between words
        metavar = metavar or long.rpartition("-")[2].upper()
        text += f" One of {', '.join(get_args(kind))}."
    elif get_origin(kind) is dict:
        kind, default, metavar = list[str], None, metavar or "NAME:SIZES"
    elif get_origin(kind) is list:
        default = None
    elif get_origin(kind) is tuple:
        item = get_args(kind)[0]
        text += f" Of {', '.join(get_args(item))}." if get_origin(item) is Literal else ""
        kind, metavar = str, metavar or "LIST"
        if not field.is_required():
            words, default = words or ",".join(map(str, default)), None
    if not field.is_required() and default is not None and kind is not bool:
        words = words or str(default)
    if words:
        text += rf" [dim]\[default: {words}][/dim]"
    option = typer.Option(
        default,
        *([flag.short] if flag.short else []),
        long,
        metavar=metavar,
        rich_help_panel=panels[0].title if panels else None,
        help=text.strip(),
        show_default=False,
        **bounds,
    )
    hint = kind | None if default is None else kind
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=hint)


def _read(name: str, field: FieldInfo, value: Any) -> Any:
    """Returns what Typer gives for an option as its model takes it."""
    origin = get_origin(_bare(field.annotation))
    if value is None or origin not in (dict, tuple):
        return value
    parse = flag_of(field).parse or (parse_shapes if origin is dict else _split)
    try:
        return parse(value)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{flag_name(name, field)}'") from error


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _bare(hint: Any) -> Any:
    """Returns a type without what is said of it and without None."""
    if get_origin(hint) is Annotated:
        return _bare(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        [hint] = [each for each in get_args(hint) if each is not NoneType]
        return _bare(hint)
    return hint


def _bound(field: FieldInfo, kind: type[Ge] | type[Le]) -> Any:
    """Returns the least or the largest value that an option may have, or None."""
    return next((getattr(mark, kind.__name__.lower()) for mark in field.metadata if isinstance(mark, kind)), None)
