"""Writing several files that belong together: each appears under its name only when all are complete."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from reuse_compiler.errors import OutputError


class FileTransaction:
    """Creates files under temporary names in their folders; `publish` renames them, in the order of creation.

    What is not published by the end of the `with` block is deleted.
    """

    def __init__(self, overwrite: bool) -> None:
        self._overwrite = overwrite
        self._pending: list[tuple[Path, Path]] = []

    def __enter__(self) -> FileTransaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for temporary, _ in self._pending:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    @staticmethod
    def check_folder(folder: Path) -> None:
        """Raises OutputError if no file can be created in `folder`."""
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"the folder {folder} is write-protected; choose another place")

    @contextmanager
    def create(self, path: Path) -> Iterator[BinaryIO]:
        """Opens the file that will become `path` for writing; raises OutputError if that fails or `path` exists."""
        if path.exists() and not self._overwrite:
            raise OutputError(f"{path} exists already; give another name, or pass --overwrite")
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            # Not tempfile: its files are private to the user, a model should get the usual permissions.
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
            self._pending.append((temporary, path))
            with os.fdopen(descriptor, "w+b") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error

    def publish(self) -> list[Path]:
        """Gives the files their names; returns them in the order of creation."""
        published = []
        while self._pending:
            temporary, path = self._pending[0]
            try:
                self._rename(temporary, path)
            except FileExistsError as error:
                raise OutputError(
                    f"{path} has come into being meanwhile; give another name, or pass --overwrite"
                ) from error
            except OSError as error:
                raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
            self._pending.pop(0)
            published.append(path)
        return published

    def _rename(self, temporary: Path, path: Path) -> None:
        if self._overwrite:
            temporary.replace(path)
            return
        try:
            path.hardlink_to(temporary)  # unlike a rename, this fails if `path` exists by now
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if path.exists():
                raise FileExistsError(path) from None
            temporary.replace(path)
        else:
            temporary.unlink()
