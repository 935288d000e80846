"""Where files are kept that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Returns `$REUSE_CACHE`, else `~/.cache/reuse-compiler`."""
    configured = os.environ.get("REUSE_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "reuse-compiler"
