"""Paths as callers of the Python API may give them, and where they lead."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

AnyPath = str | os.PathLike[str]


def real_path(path: AnyPath) -> Path:
    """Returns the absolute path without links; of links that lead in a circle, as far as it goes.

    `Path.resolve` raises RuntimeError for such links before Python 3.13.
    """
    return Path(os.path.realpath(path))


def temporary_folder(owner: object, prefix: str, parent: Path | None = None) -> Path:
    """Makes a folder, in the system's place for such ones or in `parent`, that goes with the object `owner`.

    Raises OSError if there is no place.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder


def are_same(path: AnyPath, other: AnyPath) -> bool:
    """Tells whether two names are of one file, or of the place where it would be."""
    if real_path(path) == real_path(other):
        return True
    try:
        return Path(path).samefile(other)
    except OSError:  # one of them is not there, or cannot be
        return False
