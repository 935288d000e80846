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

from reuse_compiler.cli.command import run_command
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.flags import Flag
from tools.calibration_results.network import Request, measure_apart
from tools.calibration_results.networks import NETWORKS
from tools.calibration_results.page import write_page


@with_flags
def main(
    networks: Annotated[
        list[str] | None, typer.Argument(metavar="NETWORK...", help=f"Of {', '.join(NETWORKS)}; none: only the page.")
    ] = None,
    *,
    request: Request,
    output: Annotated[Path, Flag("Folder of the results.", "-o", metavar="DIR")] = Path("docs/results"),
    data_only: Annotated[bool, Flag("Only write the model and its data.")] = False,
) -> None:
    """Measure calibrated networks, and write what comes out as JSON and as a page."""
    wanted = networks or []
    unknown = [name for name in wanted if name not in NETWORKS]
    if unknown:
        sys.exit(f"error: no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    output.mkdir(parents=True, exist_ok=True)
    failed = [name for name in wanted if measure_apart(name, request, None if data_only else output) != 0]
    if not data_only:
        print(write_page(output))
    if failed:
        sys.exit(f"error: no result of {', '.join(failed)} (see above)")


if __name__ == "__main__":
    run_command(main, "python -m tools.calibration_results")
