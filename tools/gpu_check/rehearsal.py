"""What can be tried without a GPU: the plan of the check, and a rehearsal by the same runner and deadline."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from tools.gpu_check.check import run_parts
from tools.gpu_check.deadline import Deadline, slowest
from tools.gpu_check.environment import missing_packages
from tools.gpu_check.parts import NEEDED, Part
from tools.gpu_check.prebuilt import Binaries
from tools.gpu_check.report import Report
from tools.gpu_check.runner import Log, Runner

SECONDS = 1800
"""Ends what hangs; a busy machine must not make the rehearsal fail."""


def explain(parts: list[Part], seconds: float, binaries: Binaries, log: Log) -> None:
    """Says what runs when, for how long, and what is missing for it."""
    log(f"library: {binaries.library} ({binaries.origin})")
    log(f"kernel tests: {binaries.device_tests}{'' if binaries.device_tests.is_file() else ' (not there)'}")
    log(f"\nOne deadline for all: {seconds:.0f} s. A part that ends early leaves its time to the later ones.")
    log("If each takes all that it may:\n")
    log(f"{'part':10} {'begins at':>9} {'may take':>9} {'not begun below':>15}")
    for part, (start, limit) in zip(parts, slowest(parts, seconds), strict=True):
        may = "left out" if limit is None else f"{limit} s"
        log(f"{part.name:10} {start:>7.0f} s {may:>9} {f'{part.least} s':>15}  {part.what}")
    log("")
    for part in parts:
        log(f"{part.name}: {shlex.join([*(f'{k}={v}' for k, v in part.variables.items()), *part.command])}")


def rehearsals(parts: list[Part], folder: Path, binaries: Binaries) -> list[Part]:
    """Returns what is run in place of the parts: their tests are collected, their models run once on the CPU."""
    # A library that is yet to be built is not there: the installed one, which sessions find by themselves.
    library = {"REUSE_LIBRARY": str(binaries.library)} if not binaries.to_build else {}
    measure = [sys.executable, "-m", "tools.gpu_check.again", "--smoke", "--results", str(folder)]
    collected = [
        Part(
            f"{part.name}?",
            f"the tests of {part.name} can be imported and are collected",
            [*part.command, "--collect-only", "-qqq"],
            least=1, most=SECONDS, variables=library, packages=part.packages,
        )
        for part in parts if "pytest" in part.command
    ]  # fmt: skip
    measured = [
        Part(
            part.name,
            f"models of {part.name} are built and run once on the CPU, all that take seconds there",
            [*measure, part.name],
            least=1, most=SECONDS, variables=library, packages=part.packages,
        )
        for part in parts if part.name in ("layers", "networks")
    ]  # fmt: skip
    return collected + measured


def rehearse(parts: list[Part], seconds: float, binaries: Binaries, report: Report, runner: Runner) -> int:
    """Explains the check and rehearses it; returns 1 if something would not work on a GPU either."""
    log = runner.log
    log("The plan of the check: nothing of it runs now, a rehearsal of what needs no GPU follows.\n")
    explain(parts, seconds, binaries, log)
    log("\nThe rehearsal, by the same runner:")
    run_parts(rehearsals(parts, report.folder, binaries), Deadline(SECONDS), report, runner)
    log("")
    for lack in sorted({lack for part in parts for lack in lacks(part, binaries, report)}):
        log(f"lacking here: {lack}")
    failed = [name for name, outcome in report.parts.items() if outcome.failed]
    if failed or runner.stop.signal is not None or missing_packages(report.machine, NEEDED):
        log(f"not ready: {', '.join(failed) or 'see above'}")
        return 1
    log("ready where a GPU is, and what is lacking here")
    return 0


def lacks(part: Part, binaries: Binaries, report: Report) -> list[str]:
    """Returns the programs and packages that a part needs and the machine has not, but for those that will be built."""
    built = {str(binaries.device_tests)} if binaries.to_build else set()
    programs = [program for program in part.programs if program not in built and shutil.which(program) is None]
    return programs + missing_packages(report.machine, part.packages)
