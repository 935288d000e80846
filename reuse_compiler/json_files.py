"""JSON files, from anywhere: whatever is wrong with one is a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn


class JsonError(Exception):
    """Why a file cannot be read, as the end of a sentence that begins with its name."""


def read_json(path: Path, *, finite: bool = True) -> Any:
    """Returns what a file holds; raises JsonError for one that cannot be read, and for NaN and infinity if `finite`."""
    if path.exists() and not path.is_file():
        raise JsonError("is not a regular file")
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse if finite else float)
    except OSError as error:
        raise JsonError(f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise JsonError("is not a JSON text file") from error
    except json.JSONDecodeError as error:
        raise JsonError(f"is not valid JSON: {error}") from error
    except RecursionError as error:
        raise JsonError("is nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits
        raise JsonError(f"is not valid: {error}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it has a number that is {constant}")
