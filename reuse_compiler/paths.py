"""Paths as callers of the Python API may give them, and where they lead."""

from __future__ import annotations

import os
from pathlib import Path

AnyPath = str | os.PathLike[str]


def real_path(path: AnyPath) -> Path:
    """Returns the absolute path without links; of links that lead in a circle, as far as it goes.

    `Path.resolve` raises RuntimeError for such links before Python 3.13.
    """
    return Path(os.path.realpath(path))


def are_same(path: AnyPath, other: AnyPath) -> bool:
    """Tells whether two names are of one file, or of the place where it would be."""
    if real_path(path) == real_path(other):
        return True
    try:
        return Path(path).samefile(other)
    except OSError:  # one of them is not there, or cannot be
        return False
