"""The command `python -m tools.goals`."""

from __future__ import annotations

from typing import Annotated

import typer

from reuse_compiler.cli.bench import JsonFile, Repeats, check_json, write_json
from reuse_compiler.cli.command import Command, run_program, stdout_console
from reuse_compiler.cli.flags import Logging
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.flags import Flag

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(cls=Command)
@with_flags
def goals(
    quick: Annotated[bool, Flag("Five repeats, and not onnxruntime's int8 form.")] = False,
    static: Annotated[bool, Flag("The goals of scope static.")] = False,
    quantised: Annotated[bool, Flag("The goals of bytes, beside onnxruntime's QLinearConv.")] = False,
    repeats: Repeats = 9,
    json_file: JsonFile = None,
    log_level: Logging = "warning",
) -> None:
    """Measure all layers that have a goal, on one thread, and how well two threads are used."""
    from reuse_compiler.benchmark.conv import Circumstances
    from tools.goals import table
    from tools.goals.report import print_goals

    check_json(json_file)
    how = Circumstances(1, table.QUICK_REPEATS if quick else repeats, staged=False, int8=not quick)
    with working(log_level) as progress:
        if quantised:
            rows = table.STATIC_BYTE_GOALS if static else table.QUANTISED_GOALS
        else:
            rows = table.STATIC_GOALS if static else table.GOALS
        report = table.measure_goals(how, rows, None if quantised or static else table.SCALING, progress)
    write_json(report, json_file)
    print_goals(report, stdout_console())


if __name__ == "__main__":
    run_program(app, "python -m tools.goals")
