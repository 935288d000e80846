"""A report as a JSON file."""

from pathlib import Path

from pydantic import BaseModel

from reuse_compiler.paths import AnyPath
from reuse_compiler.reports.text_file import write_text


def write_report(report: BaseModel, path: AnyPath, overwrite: bool = False) -> None:
    """Writes the report in one step; how infinite numbers are written is the report's own choice (null by default).

    Raises OutputError if the file cannot be written.
    """
    write_text(report.model_dump_json(indent=2) + "\n", Path(path), overwrite)
