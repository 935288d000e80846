"""A file of measurements, a line of JSON for each as soon as it is done, and when to stop measuring."""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.gpu_check.report import read_lines
from tools.gpu_check.sticky import sticky_error

MOST_FAILURES = 3
"""If so many measurements fail before one succeeds, all will."""
LOST = 75
"""Exit code of a process that has lost its GPU: another one can go on."""
HIDDEN = ("stages_ms", "layers")
"""Parts of a line that are too long to be shown."""


class GivingUpError(Exception):
    """Nothing that is left to measure can succeed."""


class LostError(Exception):
    """Nothing that is left to measure can succeed in this process."""


class Results:
    """The file, with what it has from a process before, and the time that is left."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._end = path, time.monotonic() + seconds
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines = read_lines(path)
        self.failures = sum("failed" in line for line in self._lines)
        self._measured = sum("speedup" in line for line in self._lines)

    def has(self, what: dict[str, Any]) -> bool:
        """Whether something was measured, or failed, before."""
        return any(what.items() <= line.items() for line in map(_flat, self._lines))

    def add(self, **values: Any) -> None:
        with self._path.open("a") as stream:
            stream.write(json.dumps(values) + "\n")
        shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in values.items() if k not in HIDDEN}
        print(" ".join(f"{k}={v}" for k, v in shown.items()), flush=True)

    def attempt(self, what: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
        """Measures unless time is up; what goes wrong is a result, too, unless all that follows would go wrong."""
        if time.monotonic() > self._end:
            self.add(**what, skipped="no time left")
            return
        begun = begun_path(self._path)
        begun.write_text(json.dumps(what))
        try:
            found = measure()
        except Exception as error:
            traceback.print_exc()
            self.failures += 1
            self.add(**what, failed=f"{type(error).__name__}: {error}"[:500])
            if lost := sticky_error(str(error)):
                raise LostError(f"the GPU is lost to it: {lost}") from error
            if self.failures >= MOST_FAILURES and not self._measured:
                raise GivingUpError(f"none of {self.failures} measurements succeeded") from error
        else:
            self._measured += "speedup" in found
            self.add(**what, **found)
        finally:
            begun.unlink()


def read_arguments(documentation: str | None) -> argparse.Namespace:
    """Reads the command line of a module that measures, which its documentation's first line describes."""
    parser = argparse.ArgumentParser(description=(documentation or "").partition("\n")[0])
    parser.add_argument("what", choices=["layers", "networks"])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--smoke", action="store_true")
    return parser.parse_args()


def lines_path(arguments: argparse.Namespace) -> Path:
    """Where the measurements that a command line asks for are written."""
    folder: Path = arguments.results
    return folder / f"{arguments.what}.jsonl"


def begun_path(path: Path) -> Path:
    """Where it stands what is being measured, for the case that this ends the process."""
    return path.with_suffix(".begun")


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """The values of a line that can be compared."""
    return {key: value for key, value in line.items() if not isinstance(value, dict)}
