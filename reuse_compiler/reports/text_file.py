"""Writing a text file: all of it or nothing."""

from pathlib import Path

from reuse_compiler.graph.files import FileTransaction
from reuse_compiler.graph.save import check_output


def write_text(text: str, path: Path, overwrite: bool = False) -> None:
    """Writes UTF-8 in one step. Raises OutputError if the file cannot be written, or exists and may not be replaced."""
    check_output(path, overwrite)
    with FileTransaction(overwrite) as files:
        with files.create(path) as stream:
            stream.write(text.encode())
        files.publish()
