"""The command `python -m tools.fuzz`: fuzzers that look for crashes, tracebacks, hangs and wrong values."""

from __future__ import annotations

import itertools
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from reuse_compiler.cli.command import Command, print_error, run_program
from reuse_compiler.cli.progress import working
from reuse_compiler.runtime.library import OVERRIDE
from tools.cpp_build import ROOT
from tools.fuzz import concurrent_runs, files, geometries, models, nodes
from tools.fuzz.run import Run
from tools.fuzz.worker import Check

FUZZERS: dict[str, tuple[Check, int]] = {
    "nodes": (nodes.check, 20_000),
    "geometries": (geometries.check, 5_000),
    "models": (models.check, 500),
    "files": (files.check, 500),
    "concurrent": (concurrent_runs.check, 50),
}
"""By name: what runs one case, and how many cases make a long run."""
SANITIZED = ROOT / "build" / "sanitized-ops"
RESULTS = ROOT / "build" / "fuzz"

HELP = (
    "Look for crashes, tracebacks, hangs and wrong values with random cases.\n\n"
    f"Fuzzers: {', '.join(FUZZERS)}; all without a name. A case that fails is kept in a folder with its files and "
    "failure.txt, which begins with the command that repeats it. Exits with 1 if any failed."
)
app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(cls=Command, help=HELP)
def fuzz(
    fuzzers: Annotated[list[str] | None, typer.Argument(metavar="[FUZZER]...", show_default=False)] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Cases of each fuzzer.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="No new cases of a fuzzer after that time.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all cases; without one, another each time.")] = None,
    case: Annotated[int | None, typer.Option(min=0, help="Only the case of this number.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes at once.")] = 2,
    sanitized: Annotated[
        bool, typer.Option("--sanitized", help=f"Use the library in {SANITIZED.relative_to(ROOT)} (see make fuzz).")
    ] = False,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where failures go.")] = RESULTS,
) -> None:
    """Runs the fuzzers (help text: HELP)."""
    unknown = set(fuzzers or ()) - set(FUZZERS)
    if unknown:
        raise typer.BadParameter(f"there is no fuzzer {', '.join(sorted(unknown))}: choose from {', '.join(FUZZERS)}")
    if sanitized:
        os.environ.update(_sanitizers())
    seed = secrets.randbelow(2**32) if seed is None else seed
    failed = False
    for name in fuzzers or FUZZERS:
        check, default = FUZZERS[name]
        command = f"python -m tools.fuzz {name} --seed {seed}{' --sanitized' if sanitized else ''}"
        run = Run(name, check, seed, command, output)
        total = 1 if case is not None else rounds or default
        with working() as progress:
            run.run(_cases(case, total, seconds), workers, total, progress)
        typer.echo(f"{name}: {run.done} cases of seed {seed}, {len(run.failures)} failed")
        for failure in run.failures:
            typer.echo(f"  {command} --case {failure.case}: {failure.reason} ({failure.folder})")
        failed |= bool(run.failures)
    raise typer.Exit(int(failed))


def _cases(case: int | None, total: int, seconds: float | None) -> Iterator[int]:
    """Returns the numbers of the cases to run, until the time is over."""
    end = time.monotonic() + (seconds if seconds is not None else float("inf"))
    cases = itertools.count(case) if case is not None else itertools.count()
    return itertools.takewhile(lambda _: time.monotonic() < end, itertools.islice(cases, total))


def _sanitizers() -> dict[str, str]:
    """Returns the environment in which workers use the library with AddressSanitizer and UBSan."""
    library = SANITIZED / "libreuse_ops.so"
    if not library.is_file():
        print_error(f"{library} is not built: make fuzz builds it")
        raise typer.Exit(1)
    # The C++ library comes second, so that AddressSanitizer finds the functions that throw.
    names = ("libasan.so", "libstdc++.so")
    found = [subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip() for name in names]
    return {
        OVERRIDE: str(library),
        "LD_PRELOAD": ":".join(found),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=2048:hard_rss_limit_mb=3072",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


if __name__ == "__main__":
    run_program(app, "python -m tools.fuzz")
