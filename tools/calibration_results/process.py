"""A network measured in a process of its own, so that the memory that another one took does not count for it."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

from models import packaged
from reuse_compiler.cli.progress import working
from reuse_compiler.errors import ReuseError
from reuse_compiler.reports.json_file import write_report
from tools.calibration_results.network import Request, measure_network
from tools.calibration_results.networks import NETWORKS
from tools.calibration_results.prepare import prepare
from tools.calibration_results.results import result_path

FAILURES = (ReuseError, *packaged.LOAD_ERRORS)


def measure_apart(name: str, request: Request, output: Path | None) -> int | None:
    """Writes the result of a network into the folder, or only its data if there is none; returns the exit code."""
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(name, request, output))
    process.start()
    process.join()
    return process.exitcode


def _measure(name: str, request: Request, output: Path | None) -> None:
    network = NETWORKS[name]
    try:
        if output is None:
            prepare(network, request.work / name, request.limit)
            return
        with working() as progress:
            result = measure_network(network, request, progress)
        write_report(result, result_path(output, name), overwrite=True)
    except FAILURES as error:
        sys.exit(f"error: {name}: {error}")
