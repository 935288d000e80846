"""A report as a JSON file."""

from pathlib import Path

from reuse_compiler.graph.files import FileTransaction
from reuse_compiler.graph.save import check_output
from reuse_compiler.reports.model import ModelReport


def write_report(report: ModelReport, path: Path, overwrite: bool = False) -> None:
    """Writes the report in one step; infinite errors become null. Raises OutputError if the file cannot be written."""
    check_output(path, overwrite)
    text = report.model_dump_json(indent=2) + "\n"
    with FileTransaction(overwrite) as files:
        with files.create(path) as stream:
            stream.write(text.encode())
        files.publish()
