"""The command: reads what is wanted and has it run, or rehearsed."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tools.cpp_build import ROOT
from tools.gpu_check.check import run_parts
from tools.gpu_check.deadline import SECONDS, SECONDS_WITH_OPTIONAL, Deadline
from tools.gpu_check.environment import describe, environment, unpack
from tools.gpu_check.parts import Part, all_parts
from tools.gpu_check.prebuilt import BUILD, choose
from tools.gpu_check.rehearsal import rehearse
from tools.gpu_check.report import LOG, MEASUREMENTS, REPORT, Report
from tools.gpu_check.runner import Log, Runner, Stop

COPIES = ROOT / "docs" / "results"
"""Where the results of a whole check are copied, to be committed."""


def main() -> int:
    """Runs what the command line says."""
    parser = _parser()
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as site, Stop() as stop:
        return _run(parser, arguments, Path(site), stop)


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace, site: Path, stop: Stop) -> int:
    """Runs or rehearses the parts; `site` is a folder for the bundle's packages."""
    folder = (arguments.output or BUILD / ("rehearsal" if arguments.dry else "results")).resolve()
    start = time.monotonic()
    if arguments.bundle:
        unpack(arguments.bundle, site)
    variables = environment(site)
    try:
        binaries = choose(arguments.library, arguments.architecture)
    except FileNotFoundError as error:
        parser.error(str(error))
    parts = _wanted(parser, all_parts(folder, binaries, arguments.architecture), arguments)
    seconds = arguments.seconds or (SECONDS_WITH_OPTIONAL if any(part.optional for part in parts) else SECONDS)
    runner = Runner(variables, Log(folder / LOG), stop)
    report = Report(folder, binaries.origin, describe(variables))
    for key, value in report.as_lines():
        runner.log(f"{key}: {value}")
    if arguments.dry:
        return rehearse(parts, seconds, binaries, report, runner)
    code = run_parts(parts, Deadline(seconds - (time.monotonic() - start)), report, runner)
    if not arguments.only:
        copy(report)
    return code


def copy(report: Report) -> None:
    """Copies what was measured to where results are committed."""
    files = [report.path] if any(report.measured(kind) for kind in MEASUREMENTS) else []
    if "training" in report.parts and report.parts["training"].status == "passed":
        files += report.folder.glob("training_*.json")
    for path in files:
        if path.parent != COPIES:
            shutil.copyfile(path, COPIES / path.name)


def _wanted(parser: argparse.ArgumentParser, parts: list[Part], arguments: argparse.Namespace) -> list[Part]:
    """Returns the parts that the command line asks for; a build that others need comes with them."""
    if not arguments.only:
        return [part for part in parts if arguments.optional or not part.optional]
    wanted = arguments.only.split(",")
    names = [part.name for part in parts]
    unknown = sorted(set(wanted) - {*names, "build"})
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(names)}")
    return [part for part in parts if part.name in (*wanted, "build")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.gpu_check", description="Proves and measures the CUDA operators."
    )
    add = parser.add_argument
    add("--dry", action="store_true", help="say what would be done, and rehearse what needs no GPU")
    add("--only", metavar="PART,...", help="run these parts only")
    add("--optional", action="store_true", help="also run the optional part, training")
    add("--library", type=Path, metavar="FOLDER", help="with a built library and kernel tests: nothing is built")
    add("--bundle", type=Path, metavar="FILE", help="of tools.gpu_bundle: packages that this machine lacks")
    add("--architecture", default="90a-real", help="what to compile for (default: %(default)s)")
    seconds = f"for everything (default: {SECONDS}, with --optional {SECONDS_WITH_OPTIONAL})"
    add("--seconds", type=int, help=seconds)
    folder = (BUILD / "results").relative_to(ROOT)
    add("--output", type=Path, metavar="FOLDER", help=f"for {REPORT}, JSON lines and {LOG} (default: {folder})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
