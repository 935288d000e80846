"""A report as a file, of JSON or of other text: all of it or nothing."""

from pathlib import Path

from pydantic import BaseModel

from reuse_compiler.graph.files import FileTransaction
from reuse_compiler.graph.save import check_output
from reuse_compiler.paths import AnyPath


def write_text(text: str, path: Path, overwrite: bool = False) -> None:
    """Writes UTF-8 in one step. Raises OutputError if the file cannot be written, or exists and may not be replaced."""
    check_output(path, overwrite)
    with FileTransaction(overwrite) as files:
        with files.create(path) as stream:
            stream.write(text.encode())
        files.publish()


def write_report(report: BaseModel, path: AnyPath, overwrite: bool = False) -> None:
    """Writes the report in one step; how infinite numbers are written is the report's own choice (null by default).

    Raises OutputError if the file cannot be written.
    """
    write_text(report.model_dump_json(indent=2) + "\n", Path(path), overwrite)
