"""Measures calibrated networks for docs/results.

python -m tools.calibration_results                            # the page, from the JSON files that are there
python -m tools.calibration_results cifarnet craft             # calibrates and measures these first
python -m tools.calibration_results cifarnet --data-only       # only writes model and data, for reuse-calibrate
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from reuse_compiler.calibration.options import BudgetName
from tools.calibration_results.network import Request
from tools.calibration_results.networks import NETWORKS
from tools.calibration_results.page import write_page
from tools.calibration_results.process import measure_apart


def main(
    networks: Annotated[
        list[str] | None, typer.Argument(metavar="NETWORK...", help=f"Of {', '.join(NETWORKS)}; none: only the page.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")] = Path("docs/results"),
    budget: Annotated[BudgetName, typer.Option(help="Budget of the calibration `learned`.")] = "default",
    reconstruct: Annotated[
        bool, typer.Option("--reconstruct", help="Also calibrate with --reconstruct statistics and none.")
    ] = False,
    work: Annotated[Path, typer.Option(help="Folder of models, data and configurations.")] = Request.work,
    calibrated: Annotated[
        bool, typer.Option("--calibrated", help="Take the calibrations that are in the work folder already.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use so many pictures of each kind only, to try this out.")
    ] = None,
    data_only: Annotated[bool, typer.Option("--data-only", help="Only write the model and its data.")] = False,
) -> None:
    """Measure calibrated networks, and write what comes out as JSON and as a page."""
    wanted = networks or []
    unknown = [name for name in wanted if name not in NETWORKS]
    if unknown:
        sys.exit(f"error: no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    request = Request(budget, work, reconstruct, calibrated, limit)
    output.mkdir(parents=True, exist_ok=True)
    failed = [name for name in wanted if measure_apart(name, request, None if data_only else output) != 0]
    if not data_only:
        print(write_page(output))
    if failed:
        sys.exit(f"error: no result of {', '.join(failed)} (see above)")


if __name__ == "__main__":
    typer.run(main)
