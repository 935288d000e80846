"""Paths as callers of the Python API may give them."""

import os

AnyPath = str | os.PathLike[str]
