"""Measures clusters across batches for docs/results.

python -m tools.clusters_across_batches                 # all networks; about ten minutes on one core
python -m tools.clusters_across_batches --network NAME  # one of them; the others stay as the JSON file has them
python -m tools.clusters_across_batches --page          # only the page, from that file
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from reuse_compiler.benchmark.report import describe_machine
from reuse_compiler.cli.command import run_command
from reuse_compiler.cli.from_flags import with_flags
from reuse_compiler.cli.progress import working
from reuse_compiler.flags import Flag
from reuse_compiler.reports.json_file import write_report
from tools.clusters_across_batches.measure import COMPARED_IN, NETWORKS, compare, measure_rates
from tools.clusters_across_batches.page import NAME, write_page
from tools.clusters_across_batches.results import AcrossBatches

COMMAND = "python -m tools.clusters_across_batches"


@with_flags
def main(
    output: Annotated[Path, Flag("Folder of the results.", "-o", metavar="DIR")] = Path("docs/results"),
    chosen: Annotated[
        list[str] | None,
        Flag(f"Only this one of {', '.join(own.name for own in NETWORKS)}; repeat it for more.", name="--network"),
    ] = None,
    page: Annotated[bool, Flag("Write the page from the JSON file that is there.")] = False,
) -> None:
    """Measure how soon clusters that are kept are known, and what keeping them costs."""
    path = output / f"{NAME}.json"
    order = [own.name for own in NETWORKS]
    if unknown := set(chosen or ()) - set(order):
        sys.exit(f"error: no network {', '.join(sorted(unknown))}; there are {', '.join(order)}")
    if not page:
        output.mkdir(parents=True, exist_ok=True)
        study = AcrossBatches(command=COMMAND, machine=describe_machine(), networks=[], comparisons=[])
        if chosen and path.is_file():
            study = AcrossBatches.model_validate_json(path.read_text(encoding="utf-8"))
        with working() as progress:
            for network in NETWORKS:  # what is measured stays if the rest is cut off
                if chosen and network.name not in chosen:
                    continue
                study.networks[:] = [own for own in study.networks if own.network != network.name]
                study.networks.append(measure_rates(network, progress=progress))
                study.networks.sort(key=lambda own: order.index(own.network))
                write_report(study, path, overwrite=True)
                if network is COMPARED_IN:
                    study.comparisons[:] = compare(network, progress=progress)
                    write_report(study, path, overwrite=True)
    if not path.is_file():
        sys.exit(f"error: there is no {path}: leave --page off to measure")
    print(write_page(output, AcrossBatches.model_validate_json(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    run_command(main, COMMAND)
