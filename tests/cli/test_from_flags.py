"""Options become flags, flags become options: types, bounds, choices, defaults, refusals and help."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import typer
from pydantic import BaseModel, Field, ValidationError
from typer.testing import CliRunner, Result

from reuse_compiler.calibration.options import CalibrationOptions
from reuse_compiler.cli import bench, calibrate
from reuse_compiler.cli import compile as compile_command
from reuse_compiler.cli.command import Command
from reuse_compiler.cli.from_flags import make_options, parse_shapes, with_flags
from reuse_compiler.errors import ConfigError
from reuse_compiler.flags import Conflict, Flag, Panel, flag_name, refuse
from reuse_compiler.options import FOUND_OUT, PER_LAYER, CompileOptions
from tools.similarity import __main__ as similarity
from tools.similarity.options import SimilarityOptions

FIRST, LAST = Panel("First things", 1), Panel("Last things", 2)
ALONE = Conflict("with others")


def halves(text: str) -> list[str]:
    if "/" not in text:
        raise ValueError(f"'{text}' has no halves")
    return text.split("/")


class Sample(BaseModel):
    """One option of each kind."""

    count: Annotated[int, Field(ge=1, le=4), LAST, ALONE, Flag("How many.", "-c")] = 2
    share: Annotated[float | None, Field(gt=0.0, lt=1.0), ALONE, Flag("How much.", metavar="s", default="half")] = None
    colour: Annotated[Literal["red", "green"], ALONE, Flag("Which colour.")] = "red"
    dark: Annotated[bool, ALONE, Flag("Whether dark.")] = False
    light: Annotated[bool, (FIRST, ALONE), Flag("Whether light.")] = True
    numbers: Annotated[tuple[int, ...], Field(min_length=1), ALONE, Flag("Some numbers.")] = (1, 2)
    tastes: Annotated[tuple[Literal["sweet", "sour"], ...], Flag("Tastes.")] = ()
    pair: Annotated[tuple[str, ...], Flag("Two.", name="--two", parse=halves)] = ("a", "b")
    shapes: Annotated[dict[str, tuple[int, ...]], ALONE, Flag("Sizes.", name="--shape")] = Field(default_factory=dict)
    place: Annotated[Path | None, Flag("A file.", metavar="FILE")] = None
    places: Annotated[list[Path], Flag("Files.", name="--each", metavar="FILE")] = Field(default_factory=list)


Run = Callable[..., Result]
Seen = dict[str, object]


@pytest.fixture
def seen() -> Seen:
    """What the command's function got."""
    return {}


@pytest.fixture
def run(seen: Seen) -> Run:
    """Runs a command of the model, an option of its own that is required, and an argument."""
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")

    @app.command(cls=Command)
    @with_flags
    def command(
        word: Annotated[str, typer.Argument()],
        sample: Sample,
        level: Annotated[float, Field(le=9), Flag("Needed.", metavar="x")],
        sizes: Annotated[tuple[int, ...], Flag("Own sizes.")] = (7,),
    ) -> None:
        """What it is for."""
        seen.update(word=word, sample=sample, level=level, sizes=sizes)

    return lambda *words: CliRunner().invoke(app, ["w", "--level", "3", *words], env={"COLUMNS": "150"})


def test_without_flags_options_have_their_defaults(run: Run, seen: Seen) -> None:
    assert run().exit_code == 0
    assert seen == {"word": "w", "sample": Sample(), "level": 3.0, "sizes": (7,)}


def test_every_kind_of_option_is_read(run: Run, seen: Seen) -> None:
    flags = "-c 4 --share 0.25 --colour green --dark --no-light --numbers 5,6,7 --tastes sour --two x/y --place p.txt"
    result = run(
        *flags.split(), "--shape", "a:b:1,2", "--shape", "c:3", "--sizes", "8, 9", "--each", "a,b", "--each", "c"
    )
    assert result.exit_code == 0, result.stderr
    assert seen["sample"] == Sample(
        count=4,
        share=0.25,
        colour="green",
        dark=True,
        light=False,
        numbers=(5, 6, 7),
        tastes=("sour",),
        pair=("x", "y"),
        shapes={"a:b": (1, 2), "c": (3,)},
        place=Path("p.txt"),
        places=[Path("a,b"), Path("c")],
    )
    assert seen["sizes"] == (8, 9)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("-c 5", "'-c' / '--count'"),
        ("--count 0", "'-c' / '--count'"),
        ("--count many", "'-c' / '--count'"),
        ("--share 1", "--share: Input should be less than 1"),
        ("--share nan", "--share: Input should be"),
        ("--colour blue", "Invalid value for '--colour': 'blue' is not one of"),
        ("--numbers 1,x", "--numbers: "),
        ("--tastes sweet,bitter", "--tastes: tastes.1: Input should be 'sweet' or 'sour'"),
        ("--two xy", "Invalid value for '--two': 'xy' has no halves"),
        ("--shape 1,2", "Invalid value for '--shape': '1,2' is not NAME:SIZES, as in images:1,3,224,224"),
        ("--shape a:1 --shape a:2", "Invalid value for '--shape': two different shapes for the input 'a'"),
        ("--level 10", "--level: Input should be less than or equal to 9"),
        ("--no-dark", "No such option"),
    ],
)
def test_what_options_refuse_is_a_sentence_with_the_flag(run: Run, seen: Seen, flags: str, sentence: str) -> None:
    result = run(*flags.split())
    assert result.exit_code == 2 and not seen
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert sentence in result.stderr


def test_what_is_required_is_asked_for() -> None:
    app = typer.Typer(add_completion=False)

    @app.command(cls=Command)
    @with_flags
    def command(level: Annotated[float, Flag("Needed.")]) -> None:
        raise AssertionError

    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2 and "Missing option '--level'" in result.stderr


def test_the_help_says_what_the_options_say(run: Run) -> None:
    lines = run("--help").stdout.splitlines()
    assert any("What it is for." in line for line in lines)

    def line_of(flag: str) -> str:
        [line] = [line for line in lines if f"{flag} " in line and line.startswith("│")]
        return " ".join(line.strip("│ ").split())

    assert line_of("--count") == "--count -c n [1<=x<=4] How many. [default: 2]"
    assert line_of("--share") == "--share s How much. [default: half]"
    assert line_of("--colour") == "--colour COLOUR Which colour. One of red, green. [default: red]"
    assert line_of("--dark") == "--dark Whether dark."
    assert line_of("--[no-]light") == "--[no-]light Whether light. [default: yes]"
    assert line_of("--help") == "--help Show this message and exit."
    assert line_of("--numbers") == "--numbers LIST Some numbers. [default: 1,2]"
    assert line_of("--tastes") == "--tastes LIST Tastes. Of sweet, sour."
    assert line_of("--shape") == "--shape NAME:SIZES Sizes."
    assert line_of("--place") == "--place FILE A file."
    assert line_of("--level") == "* --level x Needed. [required]"
    panels = [line.split("─ ")[1].split(" ─")[0] for line in lines if line.startswith("╭")]
    assert panels == ["Arguments", "Options", "First things", "Last things"]


@pytest.mark.parametrize(
    "command", [(compile_command.app,), (calibrate.app,), (bench.app, "conv"), (bench.app, "model")]
)
def test_no_word_of_the_help_is_broken_in_80_columns(command: tuple[Any, ...]) -> None:
    """Words that are too long for their column end at the border and go on in the next line."""
    app, *name = command
    broken, whole = (
        CliRunner().invoke(app, [*name, "--help"], env={"COLUMNS": columns}).stdout for columns in ("80", "250")
    )
    assert "<bool>" not in whole and "…" not in broken
    known = set(re.findall(r"\S+", whole))
    panels = "\n".join(line for line in broken.splitlines() if line.startswith("│"))
    assert [word for word in re.findall(r"\S+", panels) if word not in known] == []


def test_two_models_with_one_option_are_a_defect() -> None:
    def command(first: Sample, second: Sample) -> None: ...

    with pytest.raises(ValueError, match="duplicate parameter name"):
        with_flags(command)


class TestConflicts:
    def test_options_as_they_are_by_default_are_no_conflict(self) -> None:
        refuse(Sample(), ALONE)
        refuse(Sample(count=2, colour="red", shapes={}, place=Path("p")), ALONE)

    def test_all_others_are_named_in_their_order(self) -> None:
        given = Sample(light=False, share=0.5, count=3, shapes={"x": (1,)}, tastes=("sour",))
        with pytest.raises(ConfigError) as caught:
            refuse(given, ALONE)
        assert str(caught.value) == "-c and --share and --light and --shape cannot be used with others"

    def test_sentences_of_the_compiler(self) -> None:
        every = CompileOptions.model_validate(
            {
                "config": "c.json", "family": "exact", "sub_vector_length": 1, "num_hashes": 1, "scope": "batch",
                "layout": "patch", "capacity": 0.5, "distance": "angular", "table": "int8", "lowering": "staged",
                "force": True, "layers": "a", "exclude": "b", "seed": 1, "shapes": {"x": (1,)},
            }
        )  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            refuse(every, PER_LAYER)
        assert str(caught.value) == (
            "--family and -L and -H and --scope and --layout and --capacity and --distance and --table cannot be used "
            "with --config, which has settings for each layer"
        )
        with pytest.raises(ConfigError) as caught:
            refuse(every, FOUND_OUT)
        assert str(caught.value) == (
            "--config and -L and -H and --layout and --capacity and --distance and --table and --lowering and --force "
            "cannot be used with --calibration-data, which finds out what is best; "
            "reuse-calibrate says more, and reuse-compile --config takes its result"
        )


COMMANDS: list[tuple[type[BaseModel], typer.Typer, str]] = [
    (CompileOptions, compile_command.app, ""),
    (compile_command.Calibration, compile_command.app, ""),
    (CalibrationOptions, calibrate.app, ""),
    (bench.Case, bench.app, "conv"),
    (SimilarityOptions, similarity.app, ""),
]


@pytest.mark.parametrize(("options", "app", "name"), COMMANDS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_option_is_one_flag_of_its_command(options: type[BaseModel], app: typer.Typer, name: str) -> None:
    command = typer.main.get_command(app)
    command = command.commands[name] if name else command  # type: ignore[attr-defined]
    flags = [flag for parameter in command.params for flag in parameter.opts]
    assert len(flags) == len(set(flags))
    for option, field in options.model_fields.items():
        assert [parameter.name for parameter in command.params].count(option) == 1
        assert flag_name(option, field) in flags
    help_text = CliRunner().invoke(app, [*([name] if name else []), "--help"], env={"COLUMNS": "300"}).stdout
    shown = [
        re.findall(r"-[-\w]+", found[1].replace("[no-]", ""))
        for found in re.finditer(r"^│ [* ]*((-[-\w[\]]+ +)+)", help_text, re.MULTILINE)
    ]
    for option, field in options.model_fields.items():
        assert sum(flag_name(option, field) in words for words in shown) == 1


def choices(hint: Any) -> set[str]:
    """The words that a type allows, none if it takes any."""
    own = set(get_args(hint)) if get_origin(hint) is Literal else set()
    return own.union(*(choices(each) for each in get_args(hint) if not isinstance(each, str)))


def test_a_flag_means_the_same_in_all_commands() -> None:
    """Flags of one name take words of one kind: all of them any, or choices that are the same but for a few."""
    seen: dict[str, list[set[str]]] = {}
    for options, *_ in COMMANDS:
        for option, field in options.model_fields.items():
            seen.setdefault(flag_name(option, field), []).append(choices(field.annotation))
    assert len(seen["--metric"]) == len(seen["--at-least"]) == 2
    for flag, kinds_of_words in seen.items():
        assert len(set(map(bool, kinds_of_words))) == 1, flag
        assert not any(kinds_of_words) or set.intersection(*kinds_of_words), flag


def kinds(hint: Any) -> set[Any]:
    """All that a type is made of."""
    return {hint, get_origin(hint)}.union(*map(kinds, get_args(hint)))


@pytest.mark.parametrize("options", [options for options, *_ in COMMANDS])
@pytest.mark.parametrize("number", [nan, inf, -inf])
def test_no_option_takes_a_number_that_is_none(options: type[BaseModel], number: float) -> None:
    """Every comparison with NaN is false: a bound that is one holds for all results, or for none."""
    fields = {name: field for name, field in options.model_fields.items() if float in kinds(field.annotation)}
    assert fields
    for name, field in fields.items():
        value = (number,) if tuple in kinds(field.annotation) else number
        with pytest.raises(ValidationError) as caught:
            options.model_validate({name: value})
        assert (name, "finite_number") in [(error["loc"][0], error["type"]) for error in caught.value.errors()]


def test_shapes_take_names_with_colons() -> None:
    assert parse_shapes(["a:0:1,2", "b: 3", "a:0:1,2", "c:1x3x8"]) == {"a:0": (1, 2), "b": (3,), "c": (1, 3, 8)}


def test_defaults_stand_where_nothing_is_given() -> None:
    assert make_options(Sample, {"count": None, "share": 0.5}) == Sample(share=0.5)


@pytest.mark.parametrize("module", [compile_command, calibrate, bench], ids=lambda module: module.__name__)
def test_the_help_begins_with_three_commands_that_fit_a_terminal(module: ModuleType) -> None:
    text = CliRunner().invoke(module.app, ["--help"], env={"COLUMNS": "80"}).stdout
    beginning = [line.strip() for line in text.partition("╭")[0].splitlines()]
    written = [line.strip() for line in module.HELP.splitlines() if line.startswith("  ")]
    assert [line for line in beginning if line in written] == written, "no line is broken"
    assert sum(line.startswith("reuse-") for line in written) == 3
